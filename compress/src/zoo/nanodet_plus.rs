//! NanoDet-Plus-m: ShuffleNetV2, a pyramid of Ghost modules, heads of DSConv.

use std::collections::BTreeMap;

use crate::network::{
    Activation, Activation::LeakyRelu, Head, Layer, LayerKind, Network, PoolPadding, UpsampleMode,
};

/// Strides of the heads.
pub(crate) const STRIDES: [usize; 4] = [8, 16, 32, 64];
/// Number of blocks in each stage, after the block that halves the sides.
pub(crate) const BLOCKS: [usize; 3] = [3, 7, 3];

/// NanoDet-Plus-m (RangiLyu/nanodet) with 1.19 M parameters, from which the released models were pruned.
///
/// A block of ShuffleNetV2 (Ma et al. 2018) applies 1×1, depthwise 3×3 and 1×1 convolutions to half of its channels,
/// leaves the other half as it is, and shuffles both. Only 1×1 and depthwise convolutions read them, which accept
/// channels in any order. So nothing is shuffled here: a block reads slices of earlier maps that have the channels of
/// its half.
pub fn nanodet_plus(classes: usize) -> Network {
    NanodetPlus::new(classes, &Widths { stem: 24, stages: [116, 232, 464], pyramid: 96 }).network
}

/// Numbers of channels of NanoDet-Plus. Those of stages and pyramid are even.
pub(crate) struct Widths {
    pub stem: usize,
    pub stages: [usize; 3],
    pub pyramid: usize,
}

/// A channel of a layer's output.
type Channel = (String, usize);

/// The network, and the original numbers of the channels that its layers read.
pub(crate) struct NanodetPlus {
    pub network: Network,
    /// For each layer that reads a stage, the original number of each input channel.
    #[cfg_attr(not(feature = "train"), expect(dead_code))]
    pub order: BTreeMap<String, Vec<usize>>,
}

impl NanodetPlus {
    pub(crate) fn new(classes: usize, widths: &Widths) -> NanodetPlus {
        let mut build = Builder { layers: Vec::new(), order: BTreeMap::new() };
        build.conv("stem", "image", widths.stem, 3, 2, LeakyRelu);
        build.layer("pool", LayerKind::MaxPool { kernel: 3, stride: 2, padding: PoolPadding::Both }, &["stem"]);
        for (stride, source) in STRIDES.into_iter().zip(build.backbone(widths)) {
            build.conv(&format!("lateral{stride}"), &source, widths.pyramid, 1, 1, LeakyRelu);
        }
        build.pyramid(widths.pyramid);
        build.heads(classes, widths.pyramid);
        let network = Network { name: "nanodet_plus".into(), classes, names: Vec::new(), layers: build.layers };
        NanodetPlus { network, order: build.order }
    }
}

struct Builder {
    layers: Vec<Layer>,
    order: BTreeMap<String, Vec<usize>>,
}

impl Builder {
    fn layer(&mut self, name: &str, kind: LayerKind, from: &[&str]) {
        let from: &[&str] = if from == ["image"] { &[] } else { from };
        let from = from.iter().map(|&name| name.to_owned()).collect();
        self.layers.push(Layer { from, ..Layer::new(name, kind) });
    }

    fn conv(&mut self, name: &str, from: &str, out: usize, kernel: usize, stride: usize, activation: Activation) {
        self.layer(name, LayerKind::Conv { out, kernel, stride, activation, norm: false }, &[from]);
    }

    /// A DSConv. It has an activation in the middle only if `between`.
    fn ds_conv(&mut self, name: &str, from: &str, out: usize, kernel: usize, stride: usize, between: bool) {
        let depthwise_activation = (!between).then_some(Activation::None);
        let kind =
            LayerKind::DsConv { out, kernel, stride, activation: LeakyRelu, depthwise_activation, norm: false };
        self.layer(name, kind, &[from]);
    }

    fn mb_conv(&mut self, name: &str, from: &str, width: usize, stride: usize) {
        let kind = LayerKind::MbConv {
            expansion: width,
            out: width,
            kernel: 3,
            stride,
            squeeze: 0,
            activation: LeakyRelu,
            depthwise_activation: Some(Activation::None),
            out_activation: LeakyRelu,
            norm: false,
        };
        self.layer(name, kind, &[from]);
    }

    /// The three stages of ShuffleNetV2. Returns the map of each that the pyramid reads.
    fn backbone(&mut self, widths: &Widths) -> Vec<String> {
        let mut channels: Vec<Channel> = (0..widths.stem).map(|channel| ("pool".into(), channel)).collect();
        let mut sources = Vec::new();
        for (index, (width, blocks)) in widths.stages.into_iter().zip(BLOCKS).enumerate() {
            let (stage, half) = (index + 2, width / 2);
            let [left, right] = ["l", "r"].map(|side| format!("down{stage}{side}"));
            // The pyramid reads each stage except the stem, in the same way as the next stage.
            let lateral = index.checked_sub(1).map(|before| format!("lateral{}", STRIDES[before]));
            let readers: Vec<&str> =
                [Some(&left), Some(&right), lateral.as_ref()].into_iter().flatten().map(String::as_str).collect();
            let source = self.gather(&format!("stage{}", stage - 1), &channels, &readers);
            self.ds_conv(&left, &source, half, 3, 2, false);
            self.mb_conv(&right, &source, half, 2);
            sources.extend(lateral.is_some().then_some(source));
            channels = shuffled((0..half).map(|channel| (left.clone(), channel)), &right);
            for block in 1..=blocks {
                let name = format!("block{stage}_{block}");
                let taken = channels.split_off(half);
                let source = self.gather(&format!("{name}in"), &taken, &[&name]);
                self.mb_conv(&name, &source, half, 1);
                channels = shuffled(channels.into_iter(), &name);
            }
        }
        sources.push(self.gather("stage4", &channels, &["lateral32"]));
        sources
    }

    /// The name of a map with the channels `wanted`: slices of the layers that computed them, concatenated as `name`.
    /// Records the order of the channels for `readers`.
    fn gather(&mut self, name: &str, wanted: &[Channel], readers: &[&str]) -> String {
        let mut sources: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (number, (layer, _)) in wanted.iter().enumerate() {
            sources.entry(layer).or_default().push(number);
        }
        let (mut parts, mut order) = (Vec::new(), Vec::new());
        for (layer, mut numbers) in sources {
            numbers.sort_unstable_by_key(|&number| wanted[number].1);
            let (start, channels) = (wanted[numbers[0]].1, numbers.len());
            order.extend(numbers);
            if self.width(layer).is_none_or(|width| width == channels) {
                parts.push(layer.to_owned());
            } else {
                parts.push(format!("{name}_{}", parts.len()));
                self.layer(&parts[parts.len() - 1], LayerKind::Slice { start, channels }, &[layer]);
            }
        }
        for reader in readers {
            self.order.insert((*reader).to_owned(), order.clone());
        }
        if let [only] = &parts[..] {
            return only.clone();
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        self.layer(name, LayerKind::Concat, &parts);
        name.to_owned()
    }

    /// Number of output channels of a block.
    fn width(&self, layer: &str) -> Option<usize> {
        self.layers.iter().find(|other| other.name == layer).and_then(|layer| match layer.kind {
            LayerKind::DsConv { out, .. } | LayerKind::MbConv { out, .. } => Some(out),
            _ => None,
        })
    }

    /// GhostPAN: from coarse to fine and back. Each step has two Ghost modules and a parallel DSConv.
    fn pyramid(&mut self, width: usize) {
        let up = LayerKind::Upsample { factor: 2, mode: UpsampleMode::Bilinear };
        let mut coarse = "lateral32";
        for (up_name, join, fine, out) in
            [("up32", "join16", "lateral16", "top16"), ("up16", "join8", "lateral8", "top8")]
        {
            self.layer(up_name, up.clone(), &[coarse]);
            self.layer(join, LayerKind::Concat, &[up_name, fine]);
            self.ghosts(out, join, width);
            coarse = out;
        }
        let mut fine = "top8";
        for (shrink, join, coarse, out) in
            [("shrink8", "joinb16", "top16", "bottom16"), ("shrink16", "joinb32", "lateral32", "bottom32")]
        {
            self.ds_conv(shrink, fine, width, 5, 2, true);
            self.layer(join, LayerKind::Concat, &[shrink, coarse]);
            self.ghosts(out, join, width);
            fine = out;
        }
        self.ds_conv("extra64", "lateral32", width, 5, 2, true);
        self.ds_conv("shrink32", "bottom32", width, 5, 2, true);
        self.layer("bottom64", LayerKind::Add, &["extra64", "shrink32"]);
    }

    fn ghosts(&mut self, name: &str, from: &str, width: usize) {
        let ghost = |activation| LayerKind::Ghost { out: width, kernel: 1, stride: 1, activation, norm: false };
        let [first, second, beside] = ["a", "b", "s"].map(|part| format!("{name}{part}"));
        self.layer(&first, ghost(LeakyRelu), &[from]);
        self.layer(&second, ghost(Activation::None), &[&first]);
        let kind = LayerKind::DsConv {
            out: width,
            kernel: 5,
            stride: 1,
            activation: Activation::None,
            depthwise_activation: None,
            norm: false,
        };
        self.layer(&beside, kind, &[from]);
        self.layer(name, LayerKind::Add, &[&second, &beside]);
    }

    /// Two DSConv per stride, and the convolutions that read them. In distillation, the network learns the maps that
    /// the heads read.
    fn heads(&mut self, classes: usize, width: usize) {
        let mut maps = Vec::new();
        for (index, (stride, source)) in
            STRIDES.into_iter().zip(["top8", "bottom16", "bottom32", "bottom64"]).enumerate()
        {
            if let Some(layer) = self.layers.iter_mut().find(|layer| layer.name == source) {
                layer.teacher = Some(format!("features.{}", BLOCKS.len() + index));
            }
            let [first, second, sides, scores] = [
                format!("head{stride}a"),
                format!("head{stride}b"),
                format!("sides{stride}"),
                format!("scores{stride}"),
            ];
            self.ds_conv(&first, source, width, 5, 1, true);
            self.ds_conv(&second, &first, width, 5, 1, true);
            self.conv(&sides, &second, 4 * BINS, 1, 1, Activation::None);
            self.conv(&scores, &second, classes, 1, 1, Activation::None);
            maps.extend([sides, scores]);
        }
        let maps: Vec<&str> = maps.iter().map(String::as_str).collect();
        let head = Head::Distribution { bins: BINS, offset: 0.0 };
        self.layer("detect", LayerKind::Detect { head }, &maps);
    }
}

/// Number of bins of a side's distance.
pub(crate) const BINS: usize = 8;

/// The unchanged channels and those of `block`, alternating.
fn shuffled(passed: impl Iterator<Item = Channel>, block: &str) -> Vec<Channel> {
    passed.enumerate().flat_map(|(index, channel)| [channel, (block.to_owned(), index)]).collect()
}
