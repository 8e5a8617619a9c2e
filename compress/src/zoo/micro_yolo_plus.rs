//! Micro-YOLO+: Ghost modules beside DSConv and MBConv.

use crate::network::{Activation, Activation::Relu6, Head, Layer, LayerKind, Network};

/// Micro-YOLO+ (Hu et al. 2022): YOLOv3-tiny's chain and heads, with its convolutions replaced by Ghost modules, DSConv
/// and MBConv. The paper combines it with Cluster-NMS.
///
/// The paper gives the kinds of layers, 3.18× fewer parameters and 2.44× fewer MACs, but not the layers. Here the
/// layers of high resolution, where a DSConv would be limited by memory bandwidth, are Ghost modules. The wide layers
/// of low resolution are DSConv and one MBConv. The heads are Micro-YOLO's.
pub fn micro_yolo_plus(classes: usize) -> Network {
    let ghost = |name: &str, out, kernel, stride| Layer::new(name, LayerKind::ghost(out, kernel, stride, Relu6));
    let ds = |name: &str, out, kernel, stride| Layer::new(name, LayerKind::ds_conv(out, kernel, stride, Relu6));
    let to_head = |name: &str, out| {
        Layer::new(name, LayerKind::Conv { out, kernel: 1, stride: 1, activation: Activation::None, norm: false })
    };
    let mut layers =
        vec![Layer::new("stem", LayerKind::Conv { out: 16, kernel: 3, stride: 2, activation: Relu6, norm: true })];
    layers.extend([
        ghost("ghost1", 32, 3, 1),
        ghost("ghost2", 64, 3, 2),
        ghost("ghost3", 128, 3, 2),
        ghost("ghost4", 128, 3, 1),
        ds("block5", 256, 3, 2),
        ds("block6", 256, 3, 1),
        ds("block7", 256, 5, 1),
        ds("block8", 256, 5, 1),
        ds("block9", 512, 3, 2),
        ds("block10", 512, 5, 1),
        ds("block11", 512, 5, 1),
    ]);
    let (coarse, fine) = (320, 192);
    layers.extend([
        Layer::new("context", LayerKind::mb_conv(1024, coarse, 5, 1, 128, Relu6)),
        ghost("lateral", 160, 1, 1),
        Layer::new("up", LayerKind::upsample(2)),
        Layer::new("join", LayerKind::Concat).from(["up", "block8"]),
        ds("fuse", fine, 5, 1),
        ds("box16", 64, 5, 1).from(["fuse"]),
        to_head("sides16", 4),
        ds("class16", fine, 5, 1).from(["fuse"]),
        to_head("scores16", classes),
        ds("box32", 96, 5, 1).from(["context"]),
        to_head("sides32", 4),
        ds("class32", coarse, 5, 1).from(["context"]),
        to_head("scores32", classes),
        Layer::new("detect", LayerKind::Detect { head: Head::AnchorFree })
            .from(["sides16", "scores16", "sides32", "scores32"]),
    ]);
    Network { name: "micro_yolo_plus".into(), classes, names: Vec::new(), layers }
}
