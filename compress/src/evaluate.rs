//! Average precision by the COCO protocol, as pycocotools computes it.
//!
//! [`score`] is the protocol: it computes the figures from ground truth and detections. [`run`] calls it for a
//! [`Dataset`] and an ONNX file. It runs the file with the detector crate, so the measured accuracy is that of the
//! published detector.
//!
//! The protocol: per category, the detections of all photographs are sorted by score. Each is matched to the unmatched
//! object that it overlaps most. Precision is made monotone and sampled at 101 recalls. The mean over categories and
//! over the IoU thresholds 0.50, 0.55, … 0.95 is `AP`; that at 0.50 is `AP50`. At most [`MAX_DETECTIONS`] detections of
//! a category count per photograph.
//!
//! A crowd matches any number of detections, by the share of the detection inside it. Objects marked `ignore` or
//! `difficult` are not counted, nor are the detections that match them. (pycocotools reads the field `ignore`, but then
//! overwrites it with `iscrowd`. Without that line it agrees with this module.)

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use micro_yolo::{Detector, ImageView};

use crate::data::{Annotated, BadData, Dataset, Photo};
use crate::error::{Error, Result};

/// Detections of one category that count per photograph.
pub const MAX_DETECTIONS: usize = 100;

const IOU_THRESHOLDS: usize = 10;
const RECALLS: usize = 101;
/// Area ranges in square pixels: all, small, medium, large.
const AREAS: [(f64, f64); 4] = [(0.0, 1e10), (0.0, 1024.0), (1024.0, 9216.0), (9216.0, 1e10)];

/// The minimum score of a detection. Lower scores could only extend the end of the curve.
pub const SCORE_FLOOR: f32 = 0.001;

/// The default overlap above which the detection with the lower score of two of a class is dropped. It is higher than
/// the detector's default, because AP rewards recall.
pub const IOU_THRESHOLD: f32 = 0.6;

/// A box by its upper left corner and its size, in pixels of the photograph.
///
/// Values have 64 bits, unlike the detector's own, because an overlap at exactly a threshold must be on the same side
/// as in pycocotools.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoxXywh {
    /// Left edge.
    pub x: f64,
    /// Upper edge.
    pub y: f64,
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}

impl BoxXywh {
    fn area(&self) -> f64 {
        self.width * self.height
    }

    fn intersection(&self, other: &BoxXywh) -> f64 {
        let width = (self.x + self.width).min(other.x + other.width) - self.x.max(other.x);
        let height = (self.y + self.height).min(other.y + other.height) - self.y.max(other.y);
        if width <= 0.0 || height <= 0.0 { 0.0 } else { width * height }
    }
}

/// A ground-truth object.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    /// Index of the photograph.
    pub image: usize,
    /// Index of the category.
    pub category: usize,
    /// Its box.
    pub bbox: BoxXywh,
    /// Its area in square pixels, which decides whether it is small, medium or large. It is that of the outline if the
    /// annotation has one, and then often smaller than the box.
    pub area: f64,
    /// A region with many objects. It is not counted and matches any number of detections.
    pub crowd: bool,
    /// Neither a true nor a false positive.
    pub ignore: bool,
}

/// A detection.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Index of the photograph.
    pub image: usize,
    /// Index of the category.
    pub category: usize,
    /// Its box.
    pub bbox: BoxXywh,
    /// The score; only the order matters.
    pub score: f64,
}

/// The results of [`score`]. A figure is `None` if there are no objects that count.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Scores {
    /// Mean over the IoU thresholds 0.50 to 0.95.
    pub ap: Option<f64>,
    /// At IoU 0.50.
    pub ap50: Option<f64>,
    /// At IoU 0.75.
    pub ap75: Option<f64>,
    /// `ap` of objects up to 32² square pixels.
    pub ap_small: Option<f64>,
    /// `ap` of objects from 32² to 96² square pixels.
    pub ap_medium: Option<f64>,
    /// `ap` of objects from 96² square pixels.
    pub ap_large: Option<f64>,
    /// Recall with [`MAX_DETECTIONS`] detections, mean over the IoU thresholds 0.50 to 0.95.
    pub ar100: Option<f64>,
    /// The same by category, in the order of the indices.
    pub categories: Vec<CategoryScores>,
}

/// The results of [`score`] for one category.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct CategoryScores {
    /// Objects that count: neither crowds nor ignored.
    pub objects: usize,
    /// Mean over the IoU thresholds 0.50 to 0.95.
    pub ap: Option<f64>,
    /// At IoU 0.50.
    pub ap50: Option<f64>,
}

/// Options of [`run`].
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Side of the square input in pixels; `None` for the model's own size.
    pub side_px: Option<u32>,
    /// See [`IOU_THRESHOLD`].
    pub iou_threshold: f32,
    /// Number of photographs processed at the same time.
    pub threads: usize,
    /// What to do about a photograph that cannot be decoded. Under [`BadData::Skip`] it does not count.
    pub bad_data: BadData,
}

impl Default for Options {
    fn default() -> Options {
        Options { side_px: None, iou_threshold: IOU_THRESHOLD, threads: 1, bad_data: BadData::Refuse }
    }
}

/// The results of [`run`].
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// The figures, categories in the order of [`Dataset::classes`].
    pub scores: Scores,
    /// All detections; indices are those of [`Evaluation::image_ids`] and [`Dataset::classes`].
    pub found: Vec<Found>,
    /// The photographs' ids, ascending.
    pub image_ids: Vec<u64>,
    /// Categories that the model does not have, so it cannot detect them.
    pub unknown: Vec<String>,
    /// What was skipped, one sentence each.
    pub skipped: Vec<String>,
    /// Width and height of the model's input in pixels.
    pub input_px: [u32; 2],
}

/// Runs an ONNX file over all photographs of `set` and scores the detections. `progress` gets the number of
/// photographs done.
///
/// Categories are matched to the model's classes by name; only these classes are detected. Boxes with a `score` (from a
/// teacher, not a person) are neither true nor false positives.
///
/// # Errors
///
/// The model does not load or run, has none of the categories, or a photograph cannot be read.
pub fn run(onnx: &[u8], set: &Dataset, options: &Options, progress: &(dyn Fn(usize) + Sync)) -> Result<Evaluation> {
    // The protocol orders photographs by id.
    let mut images: Vec<_> = set.images.iter().collect();
    images.sort_by_key(|image| image.id);
    let mut builder = Detector::builder()
        .score_threshold(SCORE_FLOOR)
        .iou_threshold(options.iou_threshold)
        .multi_label(true)
        .max_detections(MAX_DETECTIONS);
    if let Some(side) = options.side_px {
        builder = builder.input_size(side, side);
    }
    let mut first = builder.build(onnx)?;
    let model = first.model().clone();
    let names = model.class_names();
    let category_of: Vec<Option<usize>> =
        names.iter().map(|name| set.classes.iter().position(|class| **class == **name)).collect();
    let known: Vec<usize> = (0..names.len()).filter(|&class| category_of[class].is_some()).collect();
    if known.is_empty() {
        let problem = format!(
            "the model knows none of the categories ({} …); it has {} …",
            set.classes.iter().take(3).cloned().collect::<Vec<_>>().join(", "),
            names.iter().take(3).map(|name| &**name).collect::<Vec<_>>().join(", ")
        );
        return Err(Error::Option { option: "--annotations", problem });
    }
    first.set_classes(Some(known.iter().copied()))?;
    builder = builder.classes(known);

    let queue = Queue::new(&images, &category_of, options.bad_data, progress);
    std::thread::scope(|scope| -> Result<()> {
        let threads = (1..options.threads.min(images.len()))
            .map(|_| {
                let detector = builder.build_with_model(&model)?;
                Ok(scope.spawn(|| queue.work(detector)))
            })
            .collect::<Result<Vec<_>>>()?;
        let mut result = queue.work(first);
        for thread in threads {
            let theirs = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result = result.and(theirs);
        }
        result
    })?;
    let Results { mut found, skipped } =
        queue.results.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    // Threads finish in any order. Sorting is stable, so the order within a photograph stays.
    found.sort_by_key(|found: &Found| found.image);

    let counted =
        images.iter().enumerate().filter(|(index, _)| !skipped.iter().any(|(left_out, _)| left_out == index));
    let truths: Vec<Truth> = counted.flat_map(|(index, image)| truths(index, image)).collect();
    let unknown = |class: &&String| !names.iter().any(|name| **name == ***class);
    Ok(Evaluation {
        scores: score(&truths, &found, images.len(), set.classes.len()),
        found,
        image_ids: images.iter().map(|image| image.id).collect(),
        unknown: set.classes.iter().filter(unknown).cloned().collect(),
        skipped: set.skipped.iter().cloned().chain(skipped.into_iter().map(|(_, sentence)| sentence)).collect(),
        input_px: [model.input_size().width, model.input_size().height],
    })
}

/// A queue of photographs that several threads process with detectors.
struct Queue<'a> {
    images: &'a [&'a Annotated],
    /// The category of each of the model's classes.
    category_of: &'a [Option<usize>],
    bad_data: BadData,
    progress: &'a (dyn Fn(usize) + Sync),
    next: AtomicUsize,
    done: AtomicUsize,
    results: Mutex<Results>,
}

#[derive(Default)]
struct Results {
    found: Vec<Found>,
    /// The skipped photographs, with the reason.
    skipped: Vec<(usize, String)>,
}

impl<'a> Queue<'a> {
    fn new(
        images: &'a [&'a Annotated],
        category_of: &'a [Option<usize>],
        bad_data: BadData,
        progress: &'a (dyn Fn(usize) + Sync),
    ) -> Queue<'a> {
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Queue { images, category_of, bad_data, progress, next, done, results: Mutex::default() }
    }

    /// The work of each thread: processes photographs until none is left.
    fn work(&self, mut detector: Detector) -> Result<()> {
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(image) = self.images.get(index) else { return Ok(()) };
            let result = self.detect(&mut detector, index, image);
            let mut results = self.results.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            match (result, self.bad_data) {
                (Ok(found), _) => results.found.extend(found),
                (Err(error @ (Error::Data { .. } | Error::Io { .. })), BadData::Skip) => {
                    results.skipped.push((index, error.to_string()));
                }
                (Err(error), _) => {
                    self.next.store(self.images.len(), Ordering::Relaxed); // The other threads stop, too.
                    return Err(error);
                }
            }
            drop(results);
            (self.progress)(self.done.fetch_add(1, Ordering::Relaxed) + 1);
        }
    }

    fn detect(&self, detector: &mut Detector, index: usize, image: &Annotated) -> Result<Vec<Found>> {
        let photo = Photo::of(image)?;
        let found = detector.detect(ImageView::rgb(&photo.rgb, photo.width, photo.height)?)?;
        let of_set = found.into_iter().filter_map(|found| {
            let [x, y, width, height] =
                [found.bbox.x, found.bbox.y, found.bbox.width, found.bbox.height].map(f64::from);
            Some(Found {
                image: index,
                category: self.category_of[found.class]?,
                bbox: BoxXywh { x, y, width, height },
                score: found.score.into(),
            })
        });
        Ok(of_set.collect())
    }
}

/// The objects of a photograph, with `index` as the photograph's number in [`score`].
pub fn truths(index: usize, image: &Annotated) -> impl Iterator<Item = Truth> {
    image.objects.iter().map(move |object| {
        let [x, y, width, height] = object.xywh;
        Truth {
            image: index,
            category: object.class,
            bbox: BoxXywh { x, y, width, height },
            area: object.area,
            crowd: object.crowd,
            ignore: object.ignore || object.score.is_some(),
        }
    })
}

/// Average precision and recall at each IoU threshold, of one category and one area range.
struct Curve {
    objects: usize,
    ap: [f64; IOU_THRESHOLDS],
    recall: [f64; IOU_THRESHOLDS],
}

/// The outcome for one detection at each IoU threshold.
struct MatchedDetection {
    score: f64,
    hit: [bool; IOU_THRESHOLDS],
    ignored: [bool; IOU_THRESHOLDS],
}

/// Scores detections against the ground truth.
///
/// Photographs are numbered from 0 to `images`, categories from 0 to `categories`. Detections with equal scores keep
/// the order of `found` within a photograph, and the order of the photographs' numbers between photographs. Number
/// photographs by ascending id to get the order of pycocotools.
///
/// # Panics
///
/// If an index of a photograph or category is out of range.
pub fn score(truths: &[Truth], found: &[Found], images: usize, categories: usize) -> Scores {
    let mut truths_of = vec![vec![]; images * categories];
    for truth in truths {
        truths_of[truth.category * images + truth.image].push(truth);
    }
    let mut found_of = vec![vec![]; images * categories];
    for found in found {
        found_of[found.category * images + found.image].push(found);
    }
    for found in &mut found_of {
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        found.truncate(MAX_DETECTIONS);
    }
    let curves: Vec<[Option<Curve>; 4]> = (0..categories)
        .map(|category| {
            let of_category = category * images..(category + 1) * images;
            let truths = &truths_of[of_category.clone()];
            let found = &found_of[of_category];
            AREAS.map(|area| curve(truths, found, area))
        })
        .collect();
    let mean = |area: usize, figure: &dyn Fn(&Curve) -> f64| {
        mean(curves.iter().filter_map(|of_category| of_category[area].as_ref()).map(figure))
    };
    Scores {
        ap: mean(0, &Curve::mean_ap),
        ap50: mean(0, &|curve| curve.ap[0]),
        ap75: mean(0, &|curve| curve.ap[5]),
        ap_small: mean(1, &Curve::mean_ap),
        ap_medium: mean(2, &Curve::mean_ap),
        ap_large: mean(3, &Curve::mean_ap),
        ar100: mean(0, &|curve| curve.recall.iter().sum::<f64>() / IOU_THRESHOLDS as f64),
        categories: curves
            .iter()
            .map(|[all, ..]| CategoryScores {
                objects: all.as_ref().map_or(0, |curve| curve.objects),
                ap: all.as_ref().map(Curve::mean_ap),
                ap50: all.as_ref().map(|curve| curve.ap[0]),
            })
            .collect(),
    }
}

impl Curve {
    fn mean_ap(&self) -> f64 {
        self.ap.iter().sum::<f64>() / IOU_THRESHOLDS as f64
    }
}

fn mean(figures: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = figures.fold((0.0, 0usize), |(sum, count), figure| (sum + figure, count + 1));
    (count > 0).then(|| sum / count as f64)
}

/// The curve of one category over all photographs; `None` if no object counts.
fn curve(truths: &[Vec<&Truth>], found: &[Vec<&Found>], area: (f64, f64)) -> Option<Curve> {
    let mut objects = 0;
    let mut outcomes = vec![];
    for (truths, found) in truths.iter().zip(found) {
        objects += match_one(truths, found, area, &mut outcomes);
    }
    if objects == 0 {
        return None;
    }
    outcomes.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut curve = Curve { objects, ap: [0.0; IOU_THRESHOLDS], recall: [0.0; IOU_THRESHOLDS] };
    for threshold in 0..IOU_THRESHOLDS {
        let (mut hits, mut misses) = (0.0, 0.0);
        let mut recall = Vec::with_capacity(outcomes.len());
        let mut precision: Vec<f64> = Vec::with_capacity(outcomes.len());
        for outcome in &outcomes {
            if !outcome.ignored[threshold] {
                if outcome.hit[threshold] {
                    hits += 1.0;
                } else {
                    misses += 1.0;
                }
            }
            recall.push(hits / objects as f64);
            precision.push(hits / (hits + misses + f64::EPSILON));
        }
        for i in (1..precision.len()).rev() {
            precision[i - 1] = precision[i - 1].max(precision[i]);
        }
        curve.recall[threshold] = recall.last().copied().unwrap_or(0.0);
        let sum: f64 = (0..RECALLS)
            .map(|i| {
                let wanted = if i + 1 == RECALLS { 1.0 } else { i as f64 * 0.01 };
                precision.get(recall.partition_point(|&recall| recall < wanted)).copied().unwrap_or(0.0)
            })
            .sum();
        curve.ap[threshold] = sum / RECALLS as f64;
    }
    Some(curve)
}

/// Matches the detections of one photograph to its objects. Returns how many objects count.
fn match_one(truths: &[&Truth], found: &[&Found], area: (f64, f64), outcomes: &mut Vec<MatchedDetection>) -> usize {
    let outside = |square_px: f64| square_px < area.0 || square_px > area.1;
    let ignored = |truth: &Truth| truth.crowd || truth.ignore || outside(truth.area);
    // Objects that count have priority: a detection matches an ignored object only if it matches no other.
    let mut ordered: Vec<&Truth> = truths.iter().copied().filter(|truth| !ignored(truth)).collect();
    let counted = ordered.len();
    ordered.extend(truths.iter().copied().filter(|truth| ignored(truth)));
    let overlaps: Vec<Vec<f64>> = found
        .iter()
        .map(|found| {
            ordered
                .iter()
                .map(|truth| {
                    let intersection = found.bbox.intersection(&truth.bbox);
                    // Summed in the same order as in pycocotools.
                    let union = match truth.crowd {
                        true => found.bbox.area(),
                        false => found.bbox.area() + truth.bbox.area() - intersection,
                    };
                    if intersection == 0.0 { 0.0 } else { intersection / union }
                })
                .collect()
        })
        .collect();
    let first = outcomes.len();
    outcomes.extend(found.iter().map(|found| MatchedDetection {
        score: found.score,
        hit: [false; IOU_THRESHOLDS],
        ignored: [outside(found.bbox.area()); IOU_THRESHOLDS],
    }));
    let mut taken = vec![false; ordered.len()];
    for threshold in 0..IOU_THRESHOLDS {
        taken.fill(false);
        for (overlaps, outcome) in overlaps.iter().zip(&mut outcomes[first..]) {
            let mut best = None;
            let mut best_overlap = iou_threshold(threshold);
            for (i, truth) in ordered.iter().enumerate() {
                if taken[i] && !truth.crowd {
                    continue;
                }
                if best.is_some_and(|best| best < counted) && i >= counted {
                    break;
                }
                if overlaps[i] >= best_overlap {
                    best_overlap = overlaps[i];
                    best = Some(i);
                }
            }
            if let Some(best) = best {
                taken[best] = true;
                outcome.hit[threshold] = true;
                outcome.ignored[threshold] = best >= counted;
            }
        }
    }
    counted
}

/// The thresholds as numpy's `linspace(0.5, 0.95, 10)` rounds them.
fn iou_threshold(index: usize) -> f64 {
    if index + 1 == IOU_THRESHOLDS { 0.95 } else { 0.5 + index as f64 * ((0.95 - 0.5) / 9.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square(left: f64, side: f64) -> BoxXywh {
        BoxXywh { x: left, y: 0.0, width: side, height: side }
    }

    fn truth(left: f64) -> Truth {
        Truth { image: 0, category: 0, bbox: square(left, 10.0), area: 100.0, crowd: false, ignore: false }
    }

    fn found(left: f64, score: f64) -> Found {
        Found { image: 0, category: 0, bbox: square(left, 10.0), score }
    }

    #[test]
    fn all_found_is_one_and_nothing_found_is_zero() {
        let truths = [truth(0.0), truth(50.0)];
        let all = score(&truths, &[found(0.0, 0.9), found(50.0, 0.1)], 1, 1);
        assert!((all.ap.unwrap() - 1.0).abs() < 1e-9);
        assert_eq!(score(&truths, &[], 1, 1).ap, Some(0.0));
        assert_eq!(score(&[], &[found(0.0, 0.5)], 1, 1).ap, None);
    }

    #[test]
    fn half_the_objects_before_a_miss() {
        // One of two objects is found: precision 1 up to recall 0.5 (51 of the 101 recalls), 0 beyond.
        let half = score(&[truth(0.0), truth(50.0)], &[found(0.0, 0.9), found(200.0, 0.5)], 1, 1);
        assert!((half.ap50.unwrap() - 51.0 / 101.0).abs() < 1e-9);
        // The same with the false positive first: precision 1/2.
        let late = score(&[truth(0.0), truth(50.0)], &[found(0.0, 0.5), found(200.0, 0.9)], 1, 1);
        assert!((late.ap50.unwrap() - 51.0 / 202.0).abs() < 1e-9);
    }

    #[test]
    fn an_overlap_counts_at_the_thresholds_it_reaches() {
        // 10 × 10 shifted by 2: 80 / 120 = 0.667 reaches 0.50, 0.55, 0.60 and 0.65, four of ten.
        let shifted = score(&[truth(0.0)], &[found(2.0, 0.9)], 1, 1);
        assert!((shifted.ap.unwrap() - 0.4).abs() < 1e-9);
        assert_eq!(shifted.ap75, Some(0.0));
    }

    #[test]
    fn a_second_detection_of_an_object_is_a_miss() {
        let twice = score(&[truth(0.0), truth(50.0)], &[found(0.0, 0.9), found(0.5, 0.8), found(50.0, 0.7)], 1, 1);
        // 51 recalls at precision 1, 50 at 2/3.
        assert!((twice.ap50.unwrap() - (51.0 + 50.0 * 2.0 / 3.0) / 101.0).abs() < 1e-9);
    }

    #[test]
    fn difficult_objects_are_neither_hit_nor_miss() {
        let difficult = Truth { ignore: true, ..truth(50.0) };
        let truths = [truth(0.0), difficult];
        let found_it = score(&truths, &[found(50.0, 0.9), found(0.0, 0.8)], 1, 1);
        let missed_it = score(&truths, &[found(0.0, 0.8)], 1, 1);
        assert!((found_it.ap50.unwrap() - 1.0).abs() < 1e-9);
        assert_eq!(found_it, missed_it);
        assert_eq!(found_it.categories[0].objects, 1);
    }
}
