//! The built-in networks of this crate.

mod micro_yolo;
mod micro_yolo_anchors;
mod micro_yolo_plus;
pub(crate) mod nanodet_plus;
mod yolo_lite;
mod yolo_nano;
mod yolov3_tiny;

use crate::network::Network;

/// A function that builds a network for a number of classes.
type Build = fn(usize) -> Network;

/// Names and builders, in the order in which they are listed.
const ZOO: [(&str, Build); 7] = [
    ("micro_yolo", micro_yolo::micro_yolo),
    ("micro_yolo_anchors", micro_yolo_anchors::micro_yolo_anchors),
    ("yolov3_tiny", yolov3_tiny::yolov3_tiny),
    ("micro_yolo_plus", micro_yolo_plus::micro_yolo_plus),
    ("nanodet_plus", nanodet_plus::nanodet_plus),
    ("yolo_lite", yolo_lite::yolo_lite),
    ("yolo_nano", yolo_nano::yolo_nano),
];

/// The names of the built-in networks.
pub fn names() -> impl Iterator<Item = &'static str> {
    ZOO.iter().map(|entry| entry.0)
}

/// The built-in network of this name, for `classes` classes; `None` if there is none.
///
/// ```
/// let network = compress::zoo::network("micro_yolo", 80).unwrap();
/// assert_eq!(network.graph().unwrap().head_strides(), [8, 16, 32]);
/// ```
pub fn network(name: &str, classes: usize) -> Option<Network> {
    ZOO.iter().find(|entry| entry.0 == name).map(|entry| (entry.1)(classes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_network_survives_its_json_form() {
        for name in names() {
            let network = network(name, 20).unwrap();
            let again: Network = serde_json::from_str(&network.to_json()).unwrap();
            assert_eq!(again, network);
            again.graph().unwrap();
        }
    }
}
