//! Assigns stable identities to detections over time.
//!
//! Each track predicts the box of its object from the last box and its velocity. A detection is assigned to the track
//! whose prediction it overlaps most. As in ByteTrack (Zhang et al., 2022), detections with high scores are assigned
//! first, and those with low scores can only continue an existing track: a half-hidden object has a low score, but is
//! where it is predicted. Matching is greedy by overlap. With few objects per image, an optimal assignment hardly ever
//! differs.

use crate::detection::{BoxXywh, Detection};
use crate::error::{Error, Kind, Result};

/// The options of a [`Tracker`]. To change one, start from [`TrackerOptions::default`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TrackerOptions {
    /// The minimum overlap (intersection over union) of a detection with the predicted box of its track, 0 to 1. Boxes
    /// that do not overlap never match. Default: 0.2.
    pub iou_threshold: f32,
    /// The minimum score of a detection that begins a track, 0 to 1. Default: 0.4.
    pub score_threshold: f32,
    /// The number of frames in which an object must be seen before it gets its number. Default: 2, which ignores
    /// detections in a single frame. With 0 or 1, it gets its number at once.
    pub min_hits: u32,
    /// The maximum number of frames in a row without a detection. A track with more is forgotten. A track that has no
    /// number yet is forgotten in its first frame without a detection. Default: 30, a second of video.
    pub max_age: u32,
}

impl Default for TrackerOptions {
    fn default() -> TrackerOptions {
        TrackerOptions { iou_threshold: 0.2, score_threshold: 0.4, min_hits: 2, max_age: 30 }
    }
}

/// The minimum overlap at which a detection continues a track of another class: the same object, classified differently
/// for a moment.
const IOU_THRESHOLD_OTHER_CLASS: f32 = 0.6;
/// The share of the old velocity that is kept when an object is detected again.
const VELOCITY_KEPT: f32 = 0.5;
/// The share of its velocity that an undetected object keeps per frame, so that its predicted box does not drift away.
const VELOCITY_KEPT_UNSEEN: f32 = 0.8;

/// Follows objects through a video. An object keeps its number from frame to frame.
///
/// ```no_run
/// # use micro_yolo::{Detector, ImageView, Tracker};
/// # let mut detector = Detector::from_onnx(&[])?;
/// # let frames: Vec<Vec<u8>> = vec![];
/// let mut tracker = Tracker::default();
/// for frame in frames {
///     let found = detector.detect(ImageView::rgb(&frame, 640, 480)?)?;
///     for (object, id) in found.iter().zip(tracker.update(&found)) {
///         // Without a number: seen for the first time, or too weak to begin a track.
///         if let Some(id) = id {
///             println!("{} number {id} at {:?}", object.label, object.bbox);
///         }
///     }
/// }
/// # Ok::<(), micro_yolo::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Tracker {
    options: TrackerOptions,
    tracks: Vec<Track>,
    ids_given: u64,
}

#[derive(Debug, Clone)]
struct Track {
    /// Set once the object was detected in `min_hits` frames.
    id: Option<u64>,
    class: usize,
    /// The last detected box.
    bbox: BoxXywh,
    /// Pixels per frame.
    velocity: (f32, f32),
    /// The predicted box in the current frame.
    predicted: BoxXywh,
    hits: u32,
    /// Frames since the last detection.
    missed: u32,
}

impl Tracker {
    /// Creates a tracker with `options`.
    ///
    /// # Errors
    ///
    /// `invalid-option` if `iou_threshold` or `score_threshold` is not in 0 to 1.
    pub fn new(options: TrackerOptions) -> Result<Tracker> {
        for (name, value) in
            [("iou_threshold", options.iou_threshold), ("score_threshold", options.score_threshold)]
        {
            // Also false for NaN.
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::new(Kind::InvalidOption, format!("{name} is {value}; it must be from 0 to 1")));
            }
        }
        Ok(Tracker { options, ..Tracker::default() })
    }

    /// Takes the detections of the next frame and returns the number of the track of each, in the same order. It is
    /// `None` for a detection without a track, or whose track has no number yet. Numbers start at 0 and are not reused.
    pub fn update(&mut self, detections: &[Detection]) -> Vec<Option<u64>> {
        for track in &mut self.tracks {
            track.predicted.x += track.velocity.0;
            track.predicted.y += track.velocity.1;
        }
        let mut track_of = vec![None; detections.len()];
        let mut taken = vec![false; self.tracks.len()];
        let strong = |detection: &Detection| detection.score >= self.options.score_threshold;
        self.assign(detections, strong, &mut track_of, &mut taken);
        self.assign(detections, |detection| !strong(detection), &mut track_of, &mut taken);

        for (detection, track) in detections.iter().zip(&mut track_of) {
            match *track {
                Some(track) => self.tracks[track].see(detection),
                None if strong(detection) => {
                    *track = Some(self.tracks.len());
                    self.tracks.push(Track::begin(detection));
                }
                None => (),
            }
        }
        for (track, taken) in self.tracks.iter_mut().zip(taken) {
            if !taken {
                track.miss();
            }
        }
        let ids = track_of.into_iter().map(|track| self.id(track?)).collect();
        let (min_hits, max_age) = (self.options.min_hits, self.options.max_age);
        self.tracks.retain(|track| track.missed == 0 || (track.missed <= max_age && track.hits >= min_hits));
        ids
    }

    /// Forgets all tracks, for example before another video. Numbers continue where they were.
    pub fn reset(&mut self) {
        self.tracks.clear();
    }

    /// Assigns the detections for which `takes_part` holds to tracks that are not `taken`, greatest overlap first.
    fn assign(
        &self,
        detections: &[Detection],
        takes_part: impl Fn(&Detection) -> bool,
        track_of: &mut [Option<usize>],
        taken: &mut [bool],
    ) {
        let mut pairs = Vec::new();
        for (d, detection) in detections.iter().enumerate().filter(|(_, detection)| takes_part(detection)) {
            for (t, track) in self.tracks.iter().enumerate().filter(|(t, _)| !taken[*t]) {
                let iou = detection.bbox.iou(&track.predicted);
                let same_class = detection.class == track.class;
                let threshold = if same_class { self.options.iou_threshold } else { IOU_THRESHOLD_OTHER_CLASS };
                if iou >= threshold && iou > 0.0 {
                    pairs.push((same_class, iou, d, t));
                }
            }
        }
        pairs.sort_by(|a, b| b.0.cmp(&a.0).then(b.1.total_cmp(&a.1)));
        for (_, _, d, t) in pairs {
            if track_of[d].is_none() && !taken[t] {
                track_of[d] = Some(t);
                taken[t] = true;
            }
        }
    }

    fn id(&mut self, track: usize) -> Option<u64> {
        let track = &mut self.tracks[track];
        if track.id.is_none() && track.hits >= self.options.min_hits {
            track.id = Some(self.ids_given);
            self.ids_given += 1;
        }
        track.id
    }
}

impl Track {
    fn begin(detection: &Detection) -> Track {
        let bbox = detection.bbox;
        Track { id: None, class: detection.class, bbox, velocity: (0.0, 0.0), predicted: bbox, hits: 1, missed: 0 }
    }

    fn see(&mut self, detection: &Detection) {
        let centre = |b: &BoxXywh| (b.x + b.width / 2.0, b.y + b.height / 2.0);
        let (from, to) = (centre(&self.bbox), centre(&detection.bbox));
        let frames = (self.missed + 1) as f32;
        let moved = ((to.0 - from.0) / frames, (to.1 - from.1) / frames);
        let kept = if self.hits == 1 { 0.0 } else { VELOCITY_KEPT };
        self.velocity.0 += (moved.0 - self.velocity.0) * (1.0 - kept);
        self.velocity.1 += (moved.1 - self.velocity.1) * (1.0 - kept);
        self.class = detection.class;
        self.bbox = detection.bbox;
        self.predicted = detection.bbox;
        self.hits = self.hits.saturating_add(1);
        self.missed = 0;
    }

    fn miss(&mut self) {
        self.missed += 1;
        self.velocity.0 *= VELOCITY_KEPT_UNSEEN;
        self.velocity.1 *= VELOCITY_KEPT_UNSEEN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detection(class: usize, score: f32, x: f32, y: f32) -> Detection {
        let bbox = BoxXywh { x, y, width: 40.0, height: 40.0 };
        Detection { class, label: class.to_string().into(), score, bbox }
    }

    fn object(x: f32, y: f32) -> Detection {
        detection(0, 0.9, x, y)
    }

    #[test]
    fn a_number_comes_with_the_second_sighting_and_stays() {
        let mut tracker = Tracker::default();
        assert_eq!(tracker.update(&[object(0.0, 0.0)]), [None]);
        for frame in 1..50 {
            assert_eq!(tracker.update(&[object(frame as f32 * 5.0, 0.0)]), [Some(0)], "frame {frame}");
        }
    }

    #[test]
    fn fast_objects_are_followed_by_their_velocity() {
        // 25 px per frame at a width of 40: without prediction the overlap is 15 / 65 = 0.23, above 0.2; at 32 px it is
        // 8 / 72 = 0.11, so it needs the prediction.
        let mut tracker = Tracker::default();
        let mut x = 0.0;
        for frame in 0..20 {
            let ids = tracker.update(&[object(x, 0.0)]);
            if frame > 0 {
                assert_eq!(ids, [Some(0)], "frame {frame}");
            }
            x += 25.0f32.min(18.0 + 2.0 * frame as f32) + if frame > 6 { 7.0 } else { 0.0 };
        }
    }

    #[test]
    fn an_object_behind_a_tree_comes_back_as_itself() {
        let mut tracker = Tracker::default();
        for frame in 0..10 {
            tracker.update(&[object(frame as f32 * 4.0, 0.0)]);
        }
        for _ in 10..15 {
            assert_eq!(tracker.update(&[]), []);
        }
        assert_eq!(tracker.update(&[object(15.0 * 4.0, 0.0)]), [Some(0)]);
    }

    #[test]
    fn what_is_gone_too_long_is_somebody_else() {
        let options = TrackerOptions { max_age: 3, ..Default::default() };
        let mut tracker = Tracker::new(options).unwrap();
        let still = [object(0.0, 0.0)];
        tracker.update(&still);
        assert_eq!(tracker.update(&still), [Some(0)]);
        for _ in 0..4 {
            tracker.update(&[]);
        }
        assert_eq!(tracker.update(&still), [None]);
        assert_eq!(tracker.update(&still), [Some(1)]);
    }

    #[test]
    fn what_has_no_number_yet_is_forgotten_at_once() {
        let mut tracker = Tracker::default();
        let still = [object(0.0, 0.0)];
        assert_eq!(tracker.update(&still), [None]);
        tracker.update(&[]);
        assert_eq!(tracker.update(&still), [None], "a new track");
        assert_eq!(tracker.update(&still), [Some(0)]);
    }

    #[test]
    fn options_out_of_range_are_refused() {
        for wrong in [f32::NAN, f32::INFINITY, -0.1, 1.1] {
            for options in [
                TrackerOptions { iou_threshold: wrong, ..Default::default() },
                TrackerOptions { score_threshold: wrong, ..Default::default() },
            ] {
                let error = Tracker::new(options).unwrap_err();
                assert_eq!(error.code(), "invalid-option");
                assert!(error.to_string().contains(&format!("is {wrong}; it must be from 0 to 1")), "{error}");
            }
        }
        for (limit, min_hits) in [(0.0, 0), (1.0, 1)] {
            let options =
                TrackerOptions { iou_threshold: limit, score_threshold: limit, min_hits, max_age: u32::MAX };
            let mut tracker = Tracker::new(options).unwrap();
            assert_eq!(tracker.update(&[detection(0, 1.0, 0.0, 0.0)]), [Some(0)], "at once");
        }
    }

    #[test]
    fn objects_that_pass_each_other_keep_their_numbers() {
        let mut tracker = Tracker::default();
        for frame in 0..40 {
            let along = frame as f32 * 6.0;
            // They meet in the middle, 12 px apart vertically. The order of detections changes.
            let (right, left) = (object(along, 0.0), object(234.0 - along, 12.0));
            let swapped = frame % 2 == 1;
            let ids = if swapped { tracker.update(&[left, right]) } else { tracker.update(&[right, left]) };
            if frame > 0 {
                let expected = if swapped { [Some(1), Some(0)] } else { [Some(0), Some(1)] };
                // Numbers are given in the order of the second frame, where `left` came first.
                let expected = expected.map(|id| id.map(|id| 1 - id));
                assert_eq!(ids, expected, "frame {frame}");
            }
        }
    }

    #[test]
    fn weak_detections_go_on_with_tracks_but_begin_none() {
        let mut tracker = Tracker::default();
        let weak = [detection(0, 0.3, 200.0, 200.0)];
        for _ in 0..5 {
            assert_eq!(tracker.update(&weak), [None]);
        }
        tracker.update(&[object(0.0, 0.0)]);
        assert_eq!(tracker.update(&[object(0.0, 0.0)]), [Some(0)]);
        assert_eq!(tracker.update(&[detection(0, 0.3, 1.0, 0.0)]), [Some(0)]);
    }

    #[test]
    fn a_class_that_flickers_does_not_break_the_track() {
        let mut tracker = Tracker::default();
        tracker.update(&[object(0.0, 0.0)]);
        assert_eq!(tracker.update(&[object(0.0, 0.0)]), [Some(0)]);
        assert_eq!(tracker.update(&[detection(7, 0.9, 1.0, 0.0)]), [Some(0)]);
        // Another class with little overlap is another object.
        assert_eq!(tracker.update(&[detection(3, 0.9, 25.0, 0.0)]), [None]);
    }

    #[test]
    fn a_reset_forgets_tracks_but_not_numbers() {
        let mut tracker = Tracker::default();
        tracker.update(&[object(0.0, 0.0)]);
        tracker.update(&[object(0.0, 0.0)]);
        tracker.reset();
        assert_eq!(tracker.update(&[object(0.0, 0.0)]), [None]);
        assert_eq!(tracker.update(&[object(0.0, 0.0)]), [Some(1)]);
    }

    #[test]
    fn memory_stays_flat() {
        let mut tracker = Tracker::default();
        for frame in 0..5_000 {
            // A new object at another position in every frame.
            tracker.update(&[object((frame * 97 % 5000) as f32, (frame * 61 % 3000) as f32)]);
        }
        assert!(tracker.tracks.len() < 50, "{}", tracker.tracks.len());
    }
}
