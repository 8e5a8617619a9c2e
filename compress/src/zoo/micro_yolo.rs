//! Micro-YOLO with an anchor-free head. The released `micro-yolo` is another network, in models/micro-yolo.safetensors.

use crate::network::{Activation, Activation::Relu6, Head, Layer, LayerKind, Network};

/// Micro-YOLO (Hu & Li 2021), as built by this project. The backbone is a chain of DSConv with YOLOv3-tiny's widths;
/// its tensors have MobileNet v1's names, so that it can start from MobileNet's weights. There is one MBConv with
/// squeeze-and-excitation at stride 32. Separate class and box branches of DSConv 5×5 are at strides 16 and 32, as in
/// YOLOv3-tiny, and at 8 for small objects.
///
/// The paper does not give its final widths. Ours stay under its 2.56 M parameters and 1.09 GMAC at 416.
pub fn micro_yolo(classes: usize) -> Network {
    let ds = |name: &str, out, kernel, stride| Layer::new(name, LayerKind::ds_conv(out, kernel, stride, Relu6));
    let to_head = |name: &str, out| {
        Layer::new(name, LayerKind::Conv { out, kernel: 1, stride: 1, activation: Activation::None, norm: false })
    };

    let mut layers =
        vec![Layer::new("stem", LayerKind::Conv { out: 16, kernel: 3, stride: 2, activation: Relu6, norm: true })];
    // (channels, stride) of block1 … block13: strides 4, 8, 16 and 32 begin at blocks 2, 4, 6 and 12.
    let blocks = [(32, 1), (64, 2), (64, 1), (128, 2), (128, 1), (256, 2)]
        .into_iter()
        .chain([(256, 1); 5])
        .chain([(512, 2), (512, 1)]);
    layers.extend(blocks.enumerate().map(|(i, (out, stride))| ds(&format!("block{}", i + 1), out, 3, stride)));

    let (coarse, middle, fine) = (256, 192, 96);
    layers.extend([
        Layer::new("context", LayerKind::mb_conv(640, coarse, 5, 1, 80, Relu6)),
        Layer::new("lateral", LayerKind::Conv { out: 160, kernel: 1, stride: 1, activation: Relu6, norm: true }),
        Layer::new("up", LayerKind::upsample(2)),
        Layer::new("join", LayerKind::Concat).from(["up", "block11"]),
        ds("fuse", middle, 5, 1),
        Layer::new("lateral8", LayerKind::Conv { out: 96, kernel: 1, stride: 1, activation: Relu6, norm: true }),
        Layer::new("up8", LayerKind::upsample(2)),
        Layer::new("join8", LayerKind::Concat).from(["up8", "block5"]),
        ds("fuse8", fine, 5, 1),
        ds("box8", 48, 5, 1).from(["fuse8"]),
        to_head("sides8", 4),
        ds("class8", fine, 5, 1).from(["fuse8"]),
        to_head("scores8", classes),
        ds("box16", 64, 5, 1).from(["fuse"]),
        to_head("sides16", 4),
        ds("class16", middle, 5, 1).from(["fuse"]),
        to_head("scores16", classes),
        ds("box32", 96, 5, 1).from(["context"]),
        to_head("sides32", 4),
        ds("class32", coarse, 5, 1).from(["context"]),
        to_head("scores32", classes),
        Layer::new("detect", LayerKind::Detect { head: Head::AnchorFree })
            .from(["sides8", "scores8", "sides16", "scores16", "sides32", "scores32"]),
    ]);
    Network { name: "micro_yolo".into(), classes, names: Vec::new(), layers }
}
