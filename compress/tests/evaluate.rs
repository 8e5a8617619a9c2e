//! The COCO protocol against pycocotools, on data sets made by `evaluate/make.py`: from the annotations' file to the
//! figures.
#![allow(clippy::unwrap_used)] // Clippy allows it in tests, not in what they call.

use std::collections::BTreeMap;
use std::path::Path;

use compress::data::{BadData, Dataset};
use compress::evaluate::{BoxXywh, Found, Scores, Truth, score, truths};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    images: Vec<Entry>,
    categories: Vec<Entry>,
    detections: Vec<Detection>,
    expected: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
struct Entry {
    id: u64,
}

#[derive(Deserialize)]
struct Detection {
    image_id: u64,
    category_id: u64,
    bbox: [f64; 4],
    score: f64,
}

impl Case {
    /// `file` is what the case was read from.
    fn scores(&self, file: &Path) -> Scores {
        let index = |entries: &[Entry]| -> BTreeMap<u64, usize> {
            let ids: std::collections::BTreeSet<u64> = entries.iter().map(|entry| entry.id).collect();
            ids.into_iter().enumerate().map(|(i, id)| (id, i)).collect()
        };
        let (images, categories) = (index(&self.images), index(&self.categories));
        let bbox = |[x, y, width, height]: [f64; 4]| BoxXywh { x, y, width, height };
        let set = self.set(file);
        let truths: Vec<Truth> = set.images.iter().flat_map(|image| truths(images[&image.id], image)).collect();
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

    /// The data set in `file`, of photographs that nobody looks at.
    fn set(&self, file: &Path) -> Dataset {
        let folder = tempfile::tempdir().unwrap();
        for image in &self.images {
            std::fs::write(folder.path().join(format!("{}.jpg", image.id)), "").unwrap();
        }
        Dataset::read(file, folder.path(), BadData::Refuse).unwrap()
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
        let scores = case.scores(&file);
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
    assert_eq!(cases, 9);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
