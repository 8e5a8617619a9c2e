//! YOLO-Lite: a reduced YOLOv2-tiny for browsers of 2018.

use crate::network::{Activation, Head, Layer, LayerKind, Network};

/// YOLO-Lite (Huang, Pedoeem & Chen 2018): seven convolutions, no batch normalisation, meant for 224 px. Anchors are
/// those of YOLOv2-tiny for VOC, in pixels of the input (32 px a cell).
///
/// YOLOv2 uses a softmax over the classes; this head uses a sigmoid for each, which has the same cost and reads the
/// same maps.
pub fn yolo_lite(classes: usize) -> Network {
    let conv = |name: &str, out, kernel, activation| {
        Layer::new(name, LayerKind::Conv { out, kernel, stride: 1, activation, norm: false })
    };
    let mut layers = Vec::new();
    for (i, out) in [16, 32, 64, 128, 128].into_iter().enumerate() {
        layers.push(conv(&format!("conv{}", i + 1), out, 3, Activation::LeakyRelu));
        layers.push(Layer::new(format!("pool{}", i + 1), LayerKind::max_pool(2, 2)));
    }
    let cells = [[1.08, 1.19], [3.42, 4.41], [6.63, 11.38], [9.42, 5.11], [16.62, 10.52]];
    let anchors = vec![cells.map(|[width, height]| [width * 32.0, height * 32.0]).to_vec()];
    layers.extend([
        conv("conv6", 256, 3, Activation::LeakyRelu),
        conv("conv7", 5 * (5 + classes), 1, Activation::None),
        Layer::new("detect", LayerKind::Detect { head: Head::Anchors { anchors, xy_scales: Vec::new() } }),
    ]);
    Network { name: "yolo_lite".into(), classes, names: Vec::new(), layers }
}
