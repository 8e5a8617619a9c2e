//! YOLO Nano: bottlenecks found by an automatic search within a budget.

use crate::network::{Activation::None, Activation::Relu6, Head, Layer, LayerKind, Network};

/// YOLO Nano (Wong et al. 2019), with its module and channel numbers and YOLOv3's anchors for 416 px.
///
/// Its EP (expansion, depthwise, projection) is an MBConv without squeeze-and-excitation whose expansion keeps the
/// channels; its PEP(x) is a projection to x channels followed by an MBConv, plus the input where the shape allows;
/// its FCA is squeeze-and-excitation with reduction 8. The paper does not say how far a PEP expands: twice x gives
/// its 4.0 M parameters.
pub fn yolo_nano(classes: usize) -> Network {
    let mut builder = Builder { layers: Vec::new(), channels: 3 };
    builder.conv("conv1", 12, 3, 1);
    builder.conv("conv2", 24, 3, 2);
    builder.pep("pep1", 24, 7);
    builder.ep("ep1", 70, 2);
    builder.pep("pep2", 70, 25);
    builder.pep("pep3", 70, 24);
    builder.ep("ep2", 150, 2);
    builder.pep("pep4", 150, 56);
    builder.conv("conv3", 150, 1, 1);
    builder.layers.push(Layer::new("fca1", LayerKind::SqueezeExcite { squeeze: 150 / 8, activation: Relu6 }));
    builder.pep("pep5", 150, 73);
    builder.pep("pep6", 150, 71);
    let stride_8 = builder.pep("pep7", 150, 75);
    builder.ep("ep3", 325, 2);
    let mut stride_16 = String::new();
    for (i, projection) in [132, 124, 141, 140, 137, 135, 133, 140].into_iter().enumerate() {
        stride_16 = builder.pep(&format!("pep{}", i + 8), 325, projection);
    }
    builder.ep("ep4", 545, 2);
    builder.pep("pep16", 545, 276);
    builder.conv("conv4", 230, 1, 1);
    builder.ep("ep5", 489, 1);
    builder.pep("pep17", 469, 213);
    builder.conv("conv5", 189, 1, 1);
    builder.conv("conv6", 105, 1, 1);
    builder.up_and_join("1", &stride_16, 325);
    builder.pep("pep18", 325, 113);
    builder.pep("pep19", 207, 99);
    builder.conv("conv7", 98, 1, 1);
    builder.conv("conv8", 47, 1, 1);
    builder.up_and_join("2", &stride_8, 150);
    builder.pep("pep20", 122, 58);
    builder.pep("pep21", 87, 52);
    builder.pep("pep22", 93, 47);
    builder.head("conv9", classes);
    builder.branch("ep6", 183, "conv7", 98);
    builder.head("conv10", classes);
    builder.branch("ep7", 462, "conv5", 189);
    builder.head("conv11", classes);
    let anchors = vec![
        vec![[10.0, 13.0], [16.0, 30.0], [33.0, 23.0]],
        vec![[30.0, 61.0], [62.0, 45.0], [59.0, 119.0]],
        vec![[116.0, 90.0], [156.0, 198.0], [373.0, 326.0]],
    ];
    let detect = LayerKind::Detect { head: Head::Anchors { anchors, xy_scales: Vec::new() } };
    builder.layers.push(Layer::new("detect", detect).from(["conv9", "conv10", "conv11"]));
    Network { name: "yolo_nano".into(), classes, names: Vec::new(), layers: builder.layers }
}

/// Appends modules to a chain and remembers the number of channels at its end.
struct Builder {
    layers: Vec<Layer>,
    channels: usize,
}

impl Builder {
    fn conv(&mut self, name: &str, out: usize, kernel: usize, stride: usize) {
        self.layers.push(Layer::new(name, LayerKind::Conv { out, kernel, stride, activation: Relu6, norm: true }));
        self.channels = out;
    }

    fn ep(&mut self, name: &str, out: usize, stride: usize) {
        let expansion = self.channels;
        self.bottleneck(name, expansion, out, stride);
    }

    /// Returns the name of the layer that ends it.
    fn pep(&mut self, name: &str, out: usize, projection: usize) -> String {
        let input = self.layers.last().map(|layer| layer.name.clone()).unwrap_or_default();
        let residual = self.channels == out;
        self.conv(&format!("{name}.squeeze"), projection, 1, 1);
        self.bottleneck(&format!("{name}.ep"), 2 * projection, out, 1);
        if !residual {
            return format!("{name}.ep");
        }
        self.layers.push(Layer::new(name, LayerKind::Add).from([&format!("{name}.ep"), input.as_str()]));
        name.to_string()
    }

    fn bottleneck(&mut self, name: &str, expansion: usize, out: usize, stride: usize) {
        let kind = LayerKind::mb_conv(expansion, out, 3, stride, 0, Relu6);
        self.layers.push(Layer::new(name, kind));
        self.channels = out;
    }

    fn up_and_join(&mut self, number: &str, skip: &str, skip_channels: usize) {
        let up = format!("up{number}");
        self.layers.push(Layer::new(&up, LayerKind::upsample(2)));
        self.layers.push(Layer::new(format!("join{number}"), LayerKind::Concat).from([up.as_str(), skip]));
        self.channels += skip_channels;
    }

    fn branch(&mut self, name: &str, out: usize, from: &str, channels: usize) {
        self.channels = channels;
        self.ep(name, out, 1);
        if let Some(layer) = self.layers.last_mut() {
            layer.from = vec![from.to_string()];
        }
    }

    fn head(&mut self, name: &str, classes: usize) {
        let out = 3 * (5 + classes);
        self.layers
            .push(Layer::new(name, LayerKind::Conv { out, kernel: 1, stride: 1, activation: None, norm: false }));
    }
}
