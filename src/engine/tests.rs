//! Small networks on every instruction set against the same network on tract alone, and the int8 kernels against each
//! other. Natively and, under `wasm-pack test --lib`, in a browser.

#[cfg(not(target_family = "wasm"))]
use proptest::prelude::*;
use tract_core::internal::*;
use tract_core::ops::array::TypedConcat;
use tract_core::ops::cnn::{Conv, KernelFormat, MaxPool, PaddingSpec, PoolSpec};
use tract_core::ops::math::{add, div, exp, max, min, mul};
use tract_core::ops::nn::resize::{CoordTransformer, Interpolator, Nearest, Resize};
use tract_core::ops::nn::{DataFormat, Reduce, Reducer, hard_swish, leaky_relu, sigmoid};
use tract_core::ops::quant::{DequantizeLinearF32, quantize_linear_u8};

use super::region::RegionOp;
use super::simd::Isa;
use super::within::{answer_in_pixels, left_little, optimize_for};

#[cfg(target_family = "wasm")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[cfg(target_family = "wasm")]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_browser);

/// Numbers that look random and are the same on every run.
struct Numbers(u64);

impl Numbers {
    /// In -1 to 1.
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn many(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next()).collect()
    }
}

/// Builds a network as the reader of ONNX files does.
struct Network {
    model: TypedModel,
    numbers: Numbers,
    count: usize,
}

#[derive(Debug, Clone, Copy)]
struct Layer {
    outputs: usize,
    kernel: (usize, usize),
    stride: (usize, usize),
    dilation: (usize, usize),
    pad: (usize, usize),
    depthwise: bool,
}

const POINTWISE: Layer =
    Layer { outputs: 8, kernel: (1, 1), stride: (1, 1), dilation: (1, 1), pad: (0, 0), depthwise: false };

fn square(outputs: usize, kernel: usize, stride: usize, depthwise: bool) -> Layer {
    let pad = kernel / 2;
    Layer { outputs, kernel: (kernel, kernel), stride: (stride, stride), pad: (pad, pad), depthwise, ..POINTWISE }
}

impl Network {
    fn new(shape: [usize; 4]) -> (Network, OutletId) {
        let mut model = TypedModel::default();
        let source = model.add_source("images", f32::fact(shape)).unwrap();
        (Network { model, numbers: Numbers(7), count: 0 }, source)
    }

    fn wire(&mut self, op: impl Into<Box<dyn TypedOp>>, inputs: &[OutletId]) -> OutletId {
        self.count += 1;
        self.model.wire_node(format!("node{}", self.count), op, inputs).unwrap()[0]
    }

    fn constant(&mut self, tensor: Tensor) -> OutletId {
        self.count += 1;
        self.model.add_const(format!("const{}", self.count), tensor).unwrap()
    }

    fn scalar(&mut self, value: f32) -> OutletId {
        self.constant(Tensor::from_shape(&[1, 1, 1, 1], &[value]).unwrap())
    }

    fn shape(&self, x: OutletId) -> Vec<usize> {
        self.model.outlet_fact(x).unwrap().shape.as_concrete().unwrap().to_vec()
    }

    fn window(&self, x: OutletId, layer: Layer) -> PoolSpec {
        let (pad, inputs) = (tvec!(layer.pad.0, layer.pad.1), self.shape(x)[1]);
        PoolSpec {
            data_format: DataFormat::NCHW,
            kernel_shape: tvec!(layer.kernel.0, layer.kernel.1),
            padding: PaddingSpec::Explicit(pad.clone(), pad),
            dilations: Some(tvec!(layer.dilation.0, layer.dilation.1)),
            strides: Some(tvec!(layer.stride.0, layer.stride.1)),
            input_channels: inputs,
            output_channels: layer.outputs,
        }
    }

    /// With `grid`, weights are integers times a scale, one for each output.
    fn conv(&mut self, x: OutletId, layer: Layer, grid: bool) -> OutletId {
        let inputs = self.shape(x)[1];
        let layer = Layer { outputs: if layer.depthwise { inputs } else { layer.outputs }, ..layer };
        let (seen, group) = if layer.depthwise { (1, inputs) } else { (inputs, 1) };
        let per_output = seen * layer.kernel.0 * layer.kernel.1;
        let size = (2.0 / per_output as f32).sqrt();
        let mut weights = self.numbers.many(layer.outputs * per_output);
        for row in weights.chunks_mut(per_output) {
            // The largest weight of a row is what scales are made for.
            let last = row.len() - 1;
            row[last] = 1.0;
            row.iter_mut().for_each(|w| *w = if grid { (*w * 127.0).round() * (size / 127.0) } else { *w * size });
        }
        let shape = [layer.outputs, seen, layer.kernel.0, layer.kernel.1];
        let weights = self.constant(Tensor::from_shape(&shape, &weights).unwrap());
        let bias = self.numbers.many(layer.outputs);
        let bias = self.constant(tensor1(&bias));
        let op = Conv::new(self.window(x, layer), KernelFormat::OIHW, group, None);
        self.wire(op, &[x, weights, bias])
    }

    fn clip(&mut self, x: OutletId, low: f32, high: f32) -> OutletId {
        let (low, high) = (self.scalar(low), self.scalar(high));
        let x = self.wire(max(), &[x, low]);
        self.wire(min(), &[x, high])
    }

    fn relu6(&mut self, x: OutletId) -> OutletId {
        self.clip(x, 0.0, 6.0)
    }

    fn hard_sigmoid(&mut self, x: OutletId) -> OutletId {
        let (scale, offset) = (self.scalar(1.0 / 6.0), self.scalar(0.5));
        let x = self.wire(mul(), &[scale, x]);
        let x = self.wire(add(), &[offset, x]);
        self.clip(x, 0.0, 1.0)
    }

    fn mean(&mut self, x: OutletId) -> OutletId {
        let shape = self.shape(x);
        let sum = self.wire(Reduce { axes: tvec!(2, 3), reducer: Reducer::Sum }, &[x]);
        let count = self.scalar((shape[2] * shape[3]) as f32);
        self.wire(div(), &[sum, count])
    }

    fn squeeze_excite(&mut self, x: OutletId, grid: bool) -> OutletId {
        let channels = self.shape(x)[1];
        let m = self.mean(x);
        let m = self.conv(m, Layer { outputs: channels.div_ceil(4), ..POINTWISE }, grid);
        let m = self.clip(m, 0.0, f32::INFINITY);
        let m = self.conv(m, Layer { outputs: channels, ..POINTWISE }, grid);
        let m = self.hard_sigmoid(m);
        self.wire(mul(), &[x, m])
    }

    fn max_pool(&mut self, x: OutletId, layer: Layer) -> OutletId {
        let mut pool_spec = self.window(x, Layer { outputs: self.shape(x)[1], ..layer });
        let pad = tvec!(layer.pad.0, layer.pad.1);
        pool_spec.padding = PaddingSpec::ExplicitOnnxPool(pad.clone(), pad, false);
        self.wire(MaxPool { pool_spec, with_index_outputs: None }, &[x])
    }

    fn upsample(&mut self, x: OutletId) -> OutletId {
        let op = Resize {
            coord_transformer: CoordTransformer::Asymmetric,
            interpolator: Interpolator::Nearest,
            nearest: Nearest::Floor,
            optional_scales_input: Some(1),
            optional_sizes_input: None,
        };
        let factors = self.constant(tensor1(&[1f32, 1.0, 2.0, 2.0]));
        self.wire(op, &[x, factors])
    }

    fn bilinear(&mut self, x: OutletId) -> OutletId {
        let op = Resize {
            coord_transformer: CoordTransformer::HalfPixel,
            interpolator: Interpolator::Linear,
            nearest: Nearest::Floor,
            optional_scales_input: Some(1),
            optional_sizes_input: None,
        };
        let factors = self.constant(tensor1(&[1f32, 1.0, 2.0, 2.0]));
        self.wire(op, &[x, factors])
    }

    /// Through bytes and back: clipped to what 0 to 127 can say.
    fn quantized(&mut self, x: OutletId, scale: f32, zero: u8) -> OutletId {
        let x = self.clip(x, -f32::from(zero) * scale, f32::from(127 - zero) * scale);
        self.bytes(x, scale, zero)
    }

    fn bytes(&mut self, x: OutletId, scale: f32, zero: u8) -> OutletId {
        let x = self.wire(quantize_linear_u8(scale.recip(), zero), &[x]);
        self.wire(DequantizeLinearF32::new(scale, i32::from(zero)), &[x])
    }

    fn finish(mut self, outputs: &[OutletId]) -> TypedModel {
        self.model.select_output_outlets(outputs).unwrap();
        self.model
    }
}

fn run(model: TypedModel, input: &Tensor) -> Vec<Vec<f32>> {
    let model = model.into_decluttered().unwrap().into_optimized().unwrap().into_runnable().unwrap();
    // Twice, so that memory that is used again is seen to hold nothing back.
    let first = model.run(tvec!(input.clone().into_tvalue())).unwrap();
    let second = model.run(tvec!(input.clone().into_tvalue())).unwrap();
    assert_eq!(first, second, "the second run gives something else");
    first.iter().map(|t| t.as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec()).collect()
}

fn picture(model: &TypedModel) -> Tensor {
    let shape = model.input_fact(0).unwrap().shape.as_concrete().unwrap().to_vec();
    let numbers = Numbers(11).many(shape.iter().product());
    let numbers: Vec<f32> = numbers.iter().map(|x| x * 0.5 + 0.5).collect();
    Tensor::from_shape(&shape, &numbers).unwrap()
}

fn regions(model: &TypedModel) -> usize {
    model.nodes.iter().filter(|node| node.op_is::<RegionOp>()).count()
}

/// Every instruction set comes within `tolerance` of tract, in one region that leaves no other operator.
fn agrees(model: &TypedModel, tolerance: f32) {
    let input = picture(model);
    let expected = run(model.clone(), &input);
    for isa in Isa::supported() {
        let ours = optimize_for(model.clone(), isa).unwrap();
        assert!(regions(&ours) >= 1, "nothing was taken over");
        for (expected, found) in expected.iter().zip(run(ours, &input)) {
            assert_eq!(expected.len(), found.len());
            for (i, (e, f)) in expected.iter().zip(&found).enumerate() {
                assert!((e - f).abs() <= tolerance * e.abs().max(1.0), "{} at {i}: {f}, tract has {e}", isa.name());
            }
        }
    }
}

/// All instruction sets give the very same numbers, and within `tolerance` of tract's.
fn agrees_to_the_bit(model: &TypedModel, tolerance: f32) {
    let input = picture(model);
    let expected = run(model.clone(), &input);
    let scalar = run(optimize_for(model.clone(), Isa::Scalar).unwrap(), &input);
    for isa in Isa::supported() {
        let same = run(optimize_for(model.clone(), isa).unwrap(), &input) == scalar;
        assert!(same, "{} gives other bytes than the scalar form", isa.name());
    }
    for (expected, found) in expected.iter().zip(&scalar) {
        for (i, (e, f)) in expected.iter().zip(found).enumerate() {
            assert!((e - f).abs() <= tolerance, "at {i}: {f}, tract has {e}");
        }
    }
}

fn any_convolution(layer: Layer, [channels, height, width]: [usize; 3]) {
    let (mut net, x) = Network::new([1, channels, height, width]);
    let y = net.conv(x, layer, false);
    let y = net.relu6(y);
    agrees(&net.finish(&[y]), 2e-5);
}

fn any_int8_convolution(layer: Layer, [channels, height, width]: [usize; 3], zero: u8) {
    let (mut net, x) = Network::new([1, channels, height, width]);
    let x = net.quantized(x, 1.0 / 64.0, zero);
    let y = net.conv(x, layer, true);
    let y = net.quantized(y, 0.05, 20);
    agrees_to_the_bit(&net.finish(&[y]), 1.01 * 0.05);
}

/// What an int8 layer wrote is what the next one reads. The first gives bytes back as they are, so that both sides round
/// the same numbers, and only once.
fn any_int8_pair(middle: usize, outputs: usize, [channels, height, width]: [usize; 3], zero: u8) {
    let (mut net, x) = Network::new([1, channels, height, width]);
    let x = net.quantized(x, 1.0 / 64.0, zero);
    let picks: Vec<f32> =
        (0..middle * channels).map(|i| f32::from(u8::from(i % channels == i / channels % channels))).collect();
    let weights = net.constant(Tensor::from_shape(&[middle, channels, 1, 1], &picks).unwrap());
    let bias = net.constant(tensor1(&vec![0f32; middle]));
    let op = Conv::new(net.window(x, Layer { outputs: middle, ..POINTWISE }), KernelFormat::OIHW, 1, None);
    let y = net.wire(op, &[x, weights, bias]);
    let y = net.quantized(y, 1.0 / 64.0, zero);
    let y = net.conv(y, Layer { outputs, ..POINTWISE }, true);
    let y = net.quantized(y, 0.07, 30);
    agrees_to_the_bit(&net.finish(&[y]), 1.01 * 0.07);
}

fn any_pool((kernel, stride, pad): (usize, usize, usize), channels: usize, side: usize) {
    let (mut net, x) = Network::new([1, channels, side, side + 3]);
    let x = net.conv(x, POINTWISE, false);
    let pad = pad.min(kernel - 1);
    let layer = Layer { kernel: (kernel, kernel), stride: (stride, stride), pad: (pad, pad), ..POINTWISE };
    let y = net.max_pool(x, layer);
    agrees(&net.finish(&[y]), 2e-5);
}

/// A layer as real networks have them, mostly alike in both directions so that the shared forms have their turn.
fn layer(
    outputs: usize,
    kernel: (usize, usize),
    stride: (usize, usize),
    dilation: (usize, usize),
    pad: (usize, usize),
    depthwise: bool,
) -> Layer {
    Layer {
        outputs,
        kernel,
        stride: if kernel.0 == kernel.1 { (stride.0, stride.0) } else { stride },
        dilation: if stride.0 < 3 { (1, 1) } else { dilation },
        pad: (pad.0.min(kernel.0 - 1), pad.1.min(kernel.1 - 1)),
        depthwise,
    }
}

#[cfg(not(target_family = "wasm"))]
fn layers() -> impl Strategy<Value = Layer> {
    let kernel =
        (1..=7usize, 1..=7usize, 0..3u8).prop_map(|(a, b, square)| if square > 0 { (a, a) } else { (a, b) });
    (
        1..40usize,
        kernel,
        (1..=3usize, 1..=3usize),
        (1..=2usize, 1..=2usize),
        (0..=3usize, 0..=3usize),
        any::<bool>(),
    )
        .prop_map(|(outputs, kernel, stride, dilation, pad, depthwise)| {
            layer(outputs, kernel, stride, dilation, pad, depthwise)
        })
}

#[cfg(not(target_family = "wasm"))]
proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_convolution_agrees(layer in layers(), channels in 1..40usize, height in 13..20usize, width in 13..24usize) {
        any_convolution(layer, [channels, height, width]);
    }

    #[test]
    fn any_int8_convolution_agrees(layer in layers(), channels in 1..40usize, height in 13..20usize, width in 13..24usize, zero in 0..100u8) {
        any_int8_convolution(layer, [channels, height, width], zero);
    }

    #[test]
    fn any_int8_pair_agrees(middle in 1..40usize, outputs in 1..40usize, channels in 1..40usize, height in 13..20usize, width in 13..24usize, zero in 0..100u8) {
        any_int8_pair(middle, outputs, [channels, height, width], zero);
    }

    #[test]
    fn any_pool_agrees(kernel in 1..=5usize, stride in 1..=3usize, pad in 0..=2usize, channels in 1..20usize, side in 9..20usize) {
        any_pool((kernel, stride, pad), channels, side);
    }
}

/// The same properties in a browser, where proptest is not: its choices, without its shrinking.
#[cfg(target_family = "wasm")]
mod any {
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    const CASES: u64 = 48;

    struct Choice(Numbers);

    impl Choice {
        fn new(case: u64) -> Choice {
            let mut numbers = Numbers(case);
            // Neighbouring seeds begin alike.
            numbers.many(3);
            Choice(numbers)
        }

        fn within(&mut self, range: std::ops::Range<usize>) -> usize {
            let share = (self.0.next() + 1.0) / 2.0;
            (range.start + (share * range.len() as f32) as usize).min(range.end - 1)
        }

        fn layer(&mut self) -> Layer {
            let (a, b) = (self.within(1..8), self.within(1..8));
            let kernel = if self.within(0..3) > 0 { (a, a) } else { (a, b) };
            let mut two = |range: std::ops::Range<usize>| (self.within(range.clone()), self.within(range));
            let (stride, dilation, pad) = (two(1..4), two(1..3), two(0..4));
            layer(self.within(1..40), kernel, stride, dilation, pad, self.within(0..2) == 1)
        }

        fn shape(&mut self) -> [usize; 3] {
            [self.within(1..40), self.within(13..20), self.within(13..24)]
        }
    }

    #[test]
    fn convolution_agrees() {
        for case in 0..CASES {
            let mut choice = Choice::new(case);
            any_convolution(choice.layer(), choice.shape());
        }
    }

    #[test]
    fn int8_convolution_agrees() {
        for case in 0..CASES {
            let mut choice = Choice::new(case);
            any_int8_convolution(choice.layer(), choice.shape(), choice.within(0..100) as u8);
        }
    }

    #[test]
    fn int8_pair_agrees() {
        for case in 0..CASES {
            let mut choice = Choice::new(case);
            any_int8_pair(choice.within(1..40), choice.within(1..40), choice.shape(), choice.within(0..100) as u8);
        }
    }

    #[test]
    fn pool_agrees() {
        for case in 0..CASES {
            let mut choice = Choice::new(case);
            let window = (choice.within(1..6), choice.within(1..4), choice.within(0..3));
            any_pool(window, choice.within(1..20), choice.within(9..20));
        }
    }

    /// What this build is for is what runs.
    #[test]
    fn vectors_are_used() {
        let expected = if cfg!(feature = "relaxed-simd") { "wasm-relaxed" } else { "wasm-simd128" };
        assert_eq!(Isa::best().name(), expected);
    }
}

/// Rows of nothing but the largest weight, with both signs, the negative one first: 128 would go into them evenly too.
#[test]
fn int8_weights_of_one_size_agree() {
    let (mut net, x) = Network::new([1, 4, 9, 9]);
    let x = net.quantized(x, 1.0 / 64.0, 0);
    let weights = net.constant(Tensor::from_shape(&[1, 4, 1, 1], &[-0.5f32, 0.5, 0.0, 0.5]).unwrap());
    let bias = net.constant(tensor1(&[0f32]));
    let op = Conv::new(net.window(x, Layer { outputs: 1, ..POINTWISE }), KernelFormat::OIHW, 1, None);
    let y = net.wire(op, &[x, weights, bias]);
    // Fine enough to see one part in 128.
    let y = net.quantized(y, 1.0 / 256.0, 30);
    agrees_to_the_bit(&net.finish(&[y]), 1e-6);
}

/// The int8 depthwise kernels have a form for each of these sides and strides.
#[test]
fn shared_int8_depthwise_forms_agree() {
    for (kernel, stride) in [(3, 1), (3, 2), (5, 1), (5, 2), (7, 1), (7, 2)] {
        // Below and above the channels of one block in every instruction set; wider than what goes through at once.
        for (channels, width) in [(8, 120), (37, 21), (70, 13)] {
            let (mut net, x) = Network::new([1, channels, 11, width]);
            let x = net.quantized(x, 1.0 / 64.0, 9);
            let y = net.conv(x, square(0, kernel, stride, true), true);
            let y = net.quantized(y, 0.05, 20);
            agrees_to_the_bit(&net.finish(&[y]), 1.01 * 0.05);
        }
    }
}

/// One convolution behind the other, as the units of this project's networks are: leaky ReLU, none, leaky ReLU.
#[test]
fn leaky_int8_convolutions_agree() {
    let layers = [
        square(24, 3, 2, false),
        Layer { outputs: 37, ..POINTWISE },
        square(0, 3, 1, true),
        square(0, 5, 2, true),
        square(0, 7, 1, true),
        layer(0, (3, 5), (1, 1), (1, 1), (1, 2), true),
    ];
    for (layer, channels) in layers.into_iter().flat_map(|layer| [(layer, 5), (layer, 40)]) {
        let (mut net, x) = Network::new([1, channels, 13, 17]);
        let x = net.quantized(x, 1.0 / 64.0, 9);
        let y = net.conv(x, layer, true);
        let y = net.wire(leaky_relu(0.1), &[y]);
        let y = net.quantized(y, 0.03, 12);
        agrees_to_the_bit(&net.finish(&[y]), 1.01 * 0.03);

        let (mut net, x) = Network::new([1, channels, 13, 17]);
        let x = net.quantized(x, 1.0 / 64.0, 9);
        let y = net.conv(x, layer, true);
        let y = net.quantized(y, 0.05, 40);
        let y = net.conv(y, Layer { outputs: 21, ..POINTWISE }, true);
        let y = net.wire(leaky_relu(0.25), &[y]);
        let y = net.quantized(y, 0.2, 20);
        // A byte between the two may be another one.
        agrees_to_the_bit(&net.finish(&[y]), 2.01 * 0.2);
    }
}

#[test]
fn int8_sums_agree() {
    for (channels, zero) in [(3, 0), (24, 40), (70, 31)] {
        for activation in 0..3 {
            let (mut net, x) = Network::new([1, channels, 7, 9]);
            let x = net.quantized(x, 1.0 / 64.0, zero);
            // Beside a part of a concatenation, whose pixels have others between them.
            let a = net.conv(x, Layer { outputs: channels, ..POINTWISE }, true);
            let a = net.quantized(a, 0.04, 60);
            let b = net.conv(x, square(0, 3, 1, true), true);
            let b = net.quantized(b, 0.031, zero);
            let sum = net.wire(add(), &[a, b]);
            let sum = match activation {
                0 => sum,
                1 => net.relu6(sum),
                _ => net.wire(leaky_relu(0.1), &[sum]),
            };
            let sum = net.quantized(sum, 0.05, 33);
            let both = net.wire(TypedConcat { axis: 1 }, &[a, sum]);
            // A byte of what is added may be another one.
            agrees_to_the_bit(&net.finish(&[sum, both]), 2.01 * 0.05);
        }
    }
}

#[test]
fn bilinear_enlargement_agrees() {
    for (channels, height, width) in [(1, 1, 5), (5, 7, 4), (24, 5, 6), (33, 3, 3)] {
        let (mut net, x) = Network::new([1, channels, height, width]);
        let small = net.conv(x, Layer { outputs: channels, ..POINTWISE }, false);
        let large = net.bilinear(small);
        let y = net.conv(large, POINTWISE, false);
        let model = net.finish(&[y, large]);
        let ours = optimize_for(model.clone(), Isa::best()).unwrap();
        assert!(ours.nodes.iter().all(|node| node.op.name() != "Resize"), "left to tract");
        agrees(&model, 5e-5);

        for zero in [0, 37] {
            let (mut net, x) = Network::new([1, channels, height, width]);
            let x = net.quantized(x, 1.0 / 64.0, zero);
            let large = net.bilinear(x);
            let y = net.bytes(large, 1.0 / 64.0, zero);
            // Ties that floats see a little off go to the other side.
            agrees_to_the_bit(&net.finish(&[y]), 1.01 / 64.0);
            // Of another scale afterwards it is a mean of floats.
            let (mut net, x) = Network::new([1, channels, height, width]);
            let x = net.quantized(x, 1.0 / 64.0, zero);
            let large = net.bilinear(x);
            let y = net.quantized(large, 1.0 / 50.0, zero);
            agrees(&net.finish(&[y]), 1.01 / 50.0);
        }
    }
}

/// A detector in small: every kind of step, a picture whose sides are no multiples of anything.
fn detector(net: &mut Network, x: OutletId, grid: Option<f32>) -> Vec<OutletId> {
    let on_grid = grid.is_some();
    fn bytes(net: &mut Network, x: OutletId, grid: Option<f32>) -> OutletId {
        match grid {
            Some(scale) => net.quantized(x, scale, 0),
            None => x,
        }
    }
    let x = match grid {
        Some(_) => net.quantized(x, 1.0 / 127.0, 0),
        None => x,
    };
    let block = |net: &mut Network, x, layer| {
        let y = net.conv(x, layer, on_grid);
        let y = net.relu6(y);
        bytes(net, y, grid)
    };
    let x = block(net, x, square(12, 3, 2, false));
    let x = block(net, x, square(0, 3, 1, true));
    let x = block(net, x, Layer { outputs: 24, ..POINTWISE });
    let fine = block(net, x, square(0, 5, 2, true));
    let fine = block(net, fine, Layer { outputs: 33, ..POINTWISE });
    let coarse = block(net, fine, square(40, 3, 2, false));
    let coarse = block(net, coarse, square(0, 5, 1, true));
    let coarse = net.squeeze_excite(coarse, on_grid);
    let coarse = bytes(net, coarse, grid);
    let coarse = block(net, coarse, Layer { outputs: 18, ..POINTWISE });
    let up = net.upsample(coarse);
    let up = match grid {
        Some(scale) => net.bytes(up, scale, 0),
        None => up,
    };
    let joined = net.wire(TypedConcat { axis: 1 }, &[up, fine]);
    let joined = match grid {
        Some(scale) => net.bytes(joined, scale, 0),
        None => joined,
    };
    let joined = block(net, joined, square(0, 7, 1, true));
    let joined = block(net, joined, Layer { outputs: 20, ..POINTWISE });
    let a = net.conv(joined, Layer { outputs: 11, ..POINTWISE }, on_grid);
    let a = net.wire(sigmoid(), &[a]);
    let b = net.conv(coarse, Layer { outputs: 4, ..POINTWISE }, on_grid);
    vec![a, b, coarse]
}

#[test]
fn a_whole_detector_agrees() {
    let (mut net, x) = Network::new([1, 3, 88, 104]);
    let outputs = detector(&mut net, x, None);
    let model = net.finish(&outputs);
    agrees(&model, 5e-5);
    let ours = optimize_for(model, Isa::best()).unwrap();
    assert_eq!(regions(&ours), 1);
    let left: Vec<_> = ours.nodes.iter().filter(|n| n.op_is::<Conv>()).map(|n| n.name.clone()).collect();
    assert!(left.is_empty(), "left to tract: {left:?}");
}

#[test]
fn a_whole_int8_detector_agrees() {
    let (mut net, x) = Network::new([1, 3, 88, 104]);
    let outputs = detector(&mut net, x, Some(6.0 / 127.0));
    // Its gate is in floats, whose roundings differ here and there and travel on; a fault would be whole units.
    agrees(&net.finish(&outputs), 0.3);
}

#[test]
fn other_activations_and_sums_agree() {
    let (mut net, x) = Network::new([1, 5, 17, 19]);
    let a = net.conv(x, square(21, 3, 1, false), false);
    let a = net.wire(leaky_relu(0.1), &[a]);
    let b = net.conv(a, square(0, 3, 1, true), false);
    let b = net.wire(hard_swish(), &[b]);
    let s = net.wire(sigmoid(), &[b]);
    let b = net.wire(mul(), &[b, s]);
    let sum = net.wire(add(), &[a, b]);
    let sum = net.relu6(sum);
    let c = net.conv(sum, square(13, 3, 1, false), false);
    let h = net.hard_sigmoid(c);
    let c = net.wire(mul(), &[c, h]);
    let product = net.wire(mul(), &[sum, a]);
    let joined = net.wire(TypedConcat { axis: 1 }, &[sum, c, product, sum]);
    let d = net.conv(joined, Layer { outputs: 3, ..POINTWISE }, false);
    let limit = net.scalar(0.75);
    let sides = net.conv(sum, Layer { outputs: 4, ..POINTWISE }, false);
    let sides = net.wire(min(), &[sides, limit]);
    let sides = net.wire(exp(), &[sides]);
    agrees(&net.finish(&[d, c, sides]), 5e-5);
}

#[test]
fn an_operator_between_two_regions_stays_between_them() {
    let (mut net, x) = Network::new([1, 4, 12, 12]);
    let a = net.conv(x, square(8, 3, 1, false), false);
    // The engine has no sine.
    let b = net.wire(tract_core::ops::math::sin(), &[a]);
    let c = net.conv(b, square(8, 3, 1, false), false);
    let d = net.wire(add(), &[a, c]);
    let model = net.finish(&[d]);
    assert_eq!(regions(&optimize_for(model.clone(), Isa::best()).unwrap()), 2);
    agrees(&model, 5e-5);
}

#[test]
fn an_answer_in_pixels_is_that_in_planes_turned() {
    let (mut net, x) = Network::new([1, 3, 6, 9]);
    let few = net.conv(x, Layer { outputs: 5, ..POINTWISE }, false);
    let many = net.conv(x, Layer { outputs: 16, ..POINTWISE }, false);
    let model = net.finish(&[few, many]);
    let input = picture(&model);
    for isa in Isa::supported() {
        let in_planes = optimize_for(model.clone(), isa).unwrap();
        let mut in_pixels = in_planes.clone();
        assert!(answer_in_pixels(&mut in_pixels).unwrap() && left_little(&in_pixels));
        for (planes, pixels) in run(in_planes, &input).iter().zip(run(in_pixels, &input)) {
            let channels = planes.len() / (6 * 9);
            let turned = (0..planes.len()).map(|i| planes[i % channels * 54 + i / channels]);
            assert_eq!(turned.collect::<Vec<_>>(), pixels, "{}", isa.name());
        }
    }
}

#[test]
fn an_answer_that_others_read_or_make_stays_in_planes() {
    let (mut net, x) = Network::new([1, 3, 6, 9]);
    let y = net.conv(x, POINTWISE, false);
    let flat = net.wire(AxisOp::Reshape(2, tvec!(6.to_dim(), 9.to_dim()), tvec!(54.to_dim())), &[y]);
    let model = net.finish(&[y, flat]);
    let mut ours = optimize_for(model.clone(), Isa::best()).unwrap();
    assert!(!answer_in_pixels(&mut ours).unwrap());
    agrees(&model, 2e-5);
}

#[test]
fn a_concatenation_inside_another_agrees() {
    let (mut net, x) = Network::new([1, 6, 9, 10]);
    let a = net.conv(x, square(7, 3, 1, false), false);
    let b = net.conv(a, square(5, 3, 1, false), false);
    let inner = net.wire(TypedConcat { axis: 1 }, &[a, b]);
    let c = net.conv(inner, square(3, 5, 1, false), false);
    let outer = net.wire(TypedConcat { axis: 1 }, &[inner, c, b]);
    let y = net.conv(outer, square(4, 3, 2, false), false);
    agrees(&net.finish(&[y]), 5e-5);
}
