//! Micro-YOLO with YOLOv3-tiny's structure and head, to compare the two with the same training.

use crate::network::{Activation::Relu6, LayerKind, Network};

use super::yolov3_tiny::yolov3_tiny;

/// Micro-YOLO (Hu & Li 2021), close to the paper: the layers, widths, two scales and anchors of [`yolov3_tiny`], with
/// its 3×3 convolutions replaced by DSConv and MBConv where that saves anything.
///
/// The paper gives the kinds of layers, 2.56 M parameters and 1.09 GMAC at 416 px, but not the kind of each layer. Here
/// the first three layers, which have few channels, stay dense. MBConv is used where the next layer widens its narrow
/// output again (before the pools). DSConv is used before 1×1 convolutions, which would be one linear map together with
/// an MBConv's reduction. Kernels are 5×5 in small maps, where they cost little and have a large receptive field.
pub fn micro_yolo_anchors(classes: usize) -> Network {
    let conv = |out, kernel| LayerKind::Conv { out, kernel, stride: 1, activation: Relu6, norm: true };
    let ds = |out, kernel| LayerKind::ds_conv(out, kernel, 1, Relu6);
    let mb = |expansion, out| LayerKind::mb_conv(expansion, out, 5, 1, expansion / 8, Relu6);
    let mut network = yolov3_tiny(classes);
    network.name = "micro_yolo_anchors".into();
    for layer in &mut network.layers {
        layer.kind = match layer.name.as_str() {
            "conv1" => conv(16, 3),
            "conv2" => conv(32, 3),
            "conv3" => conv(64, 3),
            "conv4" => ds(128, 3),
            "conv5" => mb(256, 256),
            "conv6" => mb(512, 512),
            "conv7" => ds(1024, 5),
            "conv8" => conv(256, 1),
            "conv9" => ds(512, 5),
            "conv10" => conv(128, 1),
            "conv11" => ds(256, 5),
            _ => continue,
        };
    }
    network
}
