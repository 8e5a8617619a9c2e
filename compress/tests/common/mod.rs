//! What tests of training share.
#![allow(dead_code)] // Each test file is a program of its own and uses a part.

use std::path::Path;

use compress::data::BadData;
use compress::train::{Precision, TrainConfig};

/// Eight pictures of a bright square on noise, and their boxes.
pub fn squares(folder: &Path) -> (std::path::PathBuf, std::path::PathBuf) {
    let images = folder.join("squares");
    std::fs::create_dir_all(&images).expect("the folder is ours");
    let (mut entries, mut boxes) = (Vec::new(), Vec::new());
    for id in 1..=8u32 {
        let (x0, y0, side) = (id * 5, 40 - id * 4, 30);
        image::RgbImage::from_fn(96, 96, |x, y| {
            let inside = (x0..x0 + side).contains(&x) && (y0..y0 + side).contains(&y);
            let noise = (x * 7 + y * 13 + id * 31) % 60;
            image::Rgb([if inside { 250 } else { noise as u8 }; 3])
        })
        .save(images.join(format!("{id}.png")))
        .expect("the folder is there");
        entries.push(serde_json::json!({"id": id, "file_name": format!("{id}.png"), "width": 96, "height": 96}));
        boxes.push(
            serde_json::json!({"id": id, "image_id": id, "category_id": 1, "bbox": [x0, y0, side, side], "area": 900}),
        );
    }
    let set = serde_json::json!({
        "images": entries,
        "annotations": boxes,
        "categories": [{"id": 1, "name": "square"}, {"id": 2, "name": "circle"}],
    });
    let annotations = folder.join("squares.json");
    std::fs::write(&annotations, set.to_string()).expect("the folder is there");
    (annotations, images)
}

/// A short run on them.
pub fn config(folder: &Path, run: &str) -> TrainConfig {
    TrainConfig {
        run: folder.join(run),
        data: vec![squares(folder)],
        photos: Vec::new(),
        init: None,
        init_rate: 1.0,
        freeze: None,
        int8: false,
        distill: None,
        images: 48,
        minutes: None,
        batch: 4,
        sizes: vec![(64, 0.0)],
        mosaic: (0.5, 1.0),
        mixup: 0.3,
        cover: 0.3,
        rare: 0.01,
        draw: [1.0, 1.0],
        teacher_min: 0.3,
        rate: 2e-3,
        decay: 0.03,
        warmup: 2,
        final_rate: 0.01,
        relative_rate: false,
        average_over: 0.0,
        seed: 3,
        replicas: 1,
        loader_threads: 2,
        keep_gib: 0.1,
        precision: Precision::F32,
        device: "cpu".into(),
        bad_data: BadData::Refuse,
        log_every: 1,
        save_seconds: 1000,
    }
}

/// How many lines its log has.
pub fn log_lines(config: &TrainConfig) -> usize {
    std::fs::read_to_string(config.run.join("log.jsonl")).map_or(0, |text| text.lines().count())
}
