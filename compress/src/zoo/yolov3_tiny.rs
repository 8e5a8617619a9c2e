//! YOLOv3-tiny, with which Micro-YOLO is compared.

use crate::network::{Activation, Head, Layer, LayerKind, Network};

/// YOLOv3-tiny (Redmon & Farhadi 2018; Darknet's `yolov3-tiny.cfg`), with its anchors for 416 px.
pub fn yolov3_tiny(classes: usize) -> Network {
    let conv = |name: &str, out, kernel| {
        Layer::new(name, LayerKind::Conv { out, kernel, stride: 1, activation: Activation::LeakyRelu, norm: true })
    };
    let pool = |name: &str, stride| Layer::new(name, LayerKind::max_pool(2, stride));
    let head = |name: &str| {
        let out = 3 * (5 + classes);
        Layer::new(name, LayerKind::Conv { out, kernel: 1, stride: 1, activation: Activation::None, norm: false })
    };
    let layers = vec![
        conv("conv1", 16, 3),
        pool("pool1", 2),
        conv("conv2", 32, 3),
        pool("pool2", 2),
        conv("conv3", 64, 3),
        pool("pool3", 2),
        conv("conv4", 128, 3),
        pool("pool4", 2),
        conv("conv5", 256, 3),
        pool("pool5", 2),
        conv("conv6", 512, 3),
        pool("pool6", 1),
        conv("conv7", 1024, 3),
        conv("conv8", 256, 1),
        conv("conv9", 512, 3),
        head("head32"),
        conv("conv10", 128, 1).from(["conv8"]),
        Layer::new("up", LayerKind::upsample(2)),
        Layer::new("join", LayerKind::Concat).from(["up", "conv5"]),
        conv("conv11", 256, 3),
        head("head16"),
        Layer::new(
            "detect",
            LayerKind::Detect {
                head: Head::Anchors {
                    anchors: vec![
                        vec![[10.0, 14.0], [23.0, 27.0], [37.0, 58.0]],
                        vec![[81.0, 82.0], [135.0, 169.0], [344.0, 319.0]],
                    ],
                    xy_scales: Vec::new(),
                },
            },
        )
        .from(["head16", "head32"]),
    ];
    Network { name: "yolov3_tiny".into(), classes, names: Vec::new(), layers }
}
