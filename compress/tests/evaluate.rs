//! The COCO protocol against pycocotools, on data sets made by `evaluate/make.py`.

use std::collections::BTreeMap;
use std::path::Path;

use compress::evaluate::{BoxXywh, Found, Scores, Truth, score};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    images: Vec<Entry>,
    categories: Vec<Entry>,
    annotations: Vec<Annotation>,
    detections: Vec<Detection>,
    expected: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
struct Entry {
    id: u64,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: u64,
    category_id: u64,
    bbox: [f64; 4],
    area: f64,
    iscrowd: u8,
    #[serde(default)]
    difficult: u8,
}

#[derive(Deserialize)]
struct Detection {
    image_id: u64,
    category_id: u64,
    bbox: [f64; 4],
    score: f64,
}

impl Case {
    fn scores(&self) -> Scores {
        let index = |entries: &[Entry]| -> BTreeMap<u64, usize> {
            let ids: std::collections::BTreeSet<u64> = entries.iter().map(|entry| entry.id).collect();
            ids.into_iter().enumerate().map(|(i, id)| (id, i)).collect()
        };
        let (images, categories) = (index(&self.images), index(&self.categories));
        let bbox = |[x, y, width, height]: [f64; 4]| BoxXywh { x, y, width, height };
        let truths: Vec<Truth> = self
            .annotations
            .iter()
            .map(|truth| Truth {
                image: images[&truth.image_id],
                category: categories[&truth.category_id],
                bbox: bbox(truth.bbox),
                area: truth.area,
                crowd: truth.iscrowd != 0,
                ignore: truth.difficult != 0,
            })
            .collect();
        let found: Vec<Found> = self
            .detections
            .iter()
            .map(|found| Found {
                image: images[&found.image_id],
                category: categories[&found.category_id],
                bbox: bbox(found.bbox),
                score: found.score,
            })
            .collect();
        score(&truths, &found, images.len(), categories.len())
    }
}

#[test]
fn agrees_with_pycocotools() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/evaluate");
    let mut cases = 0;
    let mut wrong = vec![];
    for file in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if file.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        cases += 1;
        let case: Case = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let scores = case.scores();
        let figures = [
            ("ap", scores.ap),
            ("ap50", scores.ap50),
            ("ap75", scores.ap75),
            ("ap_small", scores.ap_small),
            ("ap_medium", scores.ap_medium),
            ("ap_large", scores.ap_large),
            ("ar100", scores.ar100),
        ];
        for (name, actual) in figures {
            // pycocotools writes -1 where no object counts.
            let (actual, expected) = (actual.unwrap_or(-1.0), case.expected[name]);
            if (actual - expected).abs() > 1e-9 {
                wrong.push(format!("{}: {name} is {actual}, expected {expected}", file.display()));
            }
        }
    }
    assert_eq!(cases, 8);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
