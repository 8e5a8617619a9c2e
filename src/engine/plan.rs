//! The engine's graph → steps over planned buffers.
//!
//! A plan decides everything that does not depend on the input: the address of each image, which images share memory,
//! how weights are packed, and how wide a border each image needs, so that kernels need not check for its edges.
//! Running a plan is a loop over its steps.
//!
//! Images are NHWC. The inputs of a concatenation are written directly into its output, and a slice is a view of its
//! input. Data is copied only if it has to be in two places.

use std::sync::Arc;

use super::net::{Conv, Id, Kind, Net, Op, Quant, Shape};
use super::simd::depthwise::{DepthwiseF32, DepthwiseI8, Windows};
use super::simd::elementwise::{self, ByteSum};
use super::simd::gemm::{ConvF32, ConvI8, OutputI8, SinkI8, WeightsF32, WeightsI8};
use super::simd::image::{PixelLayout, View, ViewMut};
use super::simd::layout::PlaneLayout;
use super::simd::pool::{self, PoolWindow};
use super::simd::quantize::{Quantize, Scale};
use super::simd::tile::{BLOCK_PIXELS, Im2col};
use super::simd::{Activation, Isa, MAX_THREADS, Requantize, ThreadPool, layout, resize};
use crate::limits::product;

/// Elements behind the last pixel that kernels may read along with it.
const SLACK: usize = 64;

/// Where an image lies.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Place {
    buffer: usize,
    target: PixelLayout,
    shape: Shape,
    kind: Kind,
    /// Distance of a channel's plane from the next one's, where the image is stored plane by plane.
    plane: Option<usize>,
}

impl Place {
    fn scale(&self) -> Scale {
        match self.kind {
            Kind::Byte(quant) => scale(quant),
            Kind::Float => Scale { scale: 1.0, zero: 0 },
        }
    }

    /// It among the arena's vectors of its kind.
    fn view<'a, T>(&self, memories: &'a [Vec<T>]) -> View<'a, T> {
        View { data: &memories[self.buffer][..], layout: self.target }
    }

    /// Its numbers, if it is one pixel.
    fn numbers<'a>(&self, memories: &'a [Vec<f32>]) -> &'a [f32] {
        &memories[self.buffer][self.target.origin..][..self.shape.channels]
    }
}

/// A buffer before it is known which memory it gets.
#[derive(Debug, Clone)]
struct Buffer {
    kind: Kind,
    shape: Shape,
    /// Elements from pixel to pixel.
    pixel: usize,
    halo: usize,
    planar: bool,
    /// None until the steps are known, and if none of them touches it.
    lifetime: Option<Lifetime>,
    /// Whether a step has been told to write the border.
    has_border: bool,
    /// Which of the arena's vectors it lies in, once that is known.
    memory: usize,
}

/// Steps that need a buffer.
#[derive(Debug, Clone, Copy)]
struct Lifetime {
    /// The one that writes it first.
    first: usize,
    /// The one that touches it last; None for an output, which outlives all of them.
    last: Option<usize>,
}

/// One of the arena's vectors, while buffers are given to them.
struct Memory {
    length: usize,
    /// The last step that needs it; None if that is for good.
    used_until: Option<usize>,
}

impl Buffer {
    fn row(&self) -> usize {
        (self.shape.width + 2 * self.halo) * if self.planar { 1 } else { self.pixel }
    }

    fn plane(&self) -> usize {
        (self.shape.height + 2 * self.halo) * (self.shape.width + 2 * self.halo)
    }

    /// Saturates: a wide border around many channels is more than 32 bits count.
    fn length(&self) -> usize {
        let Shape { height, width, channels } = self.shape;
        let pixel = if self.planar { channels } else { self.pixel };
        let numbers = product(&[height + 2 * self.halo, width + 2 * self.halo, pixel]);
        usize::try_from(numbers).unwrap_or(usize::MAX).saturating_add(SLACK)
    }

    /// Where the channels from `first` on lie.
    fn target(&self, first: usize) -> PixelLayout {
        let (row, pixel) = (self.row(), if self.planar { 1 } else { self.pixel });
        PixelLayout { origin: self.halo * (row + pixel) + if self.planar { 0 } else { first }, row, pixel }
    }
}

/// What a step does.
#[derive(Debug, Clone)]
enum Work {
    /// Floats of input `0` into planes with a border.
    ImportPlanes(usize),
    ImportPixels(usize),
    /// Into pixels of bytes; whether the buffer holds nothing else, so that what lies behind a pixel's channels is free.
    ImportBytes(usize, Quantize, bool),
    ConvF32(Box<ConvF32>),
    /// To bytes, requantised, or to floats, activated.
    ConvI8(Box<ConvI8>, OutputI8),
    DepthwiseF32(Box<DepthwiseF32>),
    DepthwiseI8(Box<DepthwiseI8>),
    Unary(Activation),
    Mul,
    Add(Activation),
    AddBytes(ByteSum),
    Gate(Quantize),
    Mean,
    MaxPool(PoolWindow),
    Upsample,
    Bilinear,
    Copy,
    /// Of as many parts.
    Shuffle(usize),
    Quantize(Quantize),
    /// Byte to byte by table.
    Table(Box<[u8; 256]>),
    Dequantize,
}

#[derive(Debug, Clone)]
struct Step {
    work: Work,
    inputs: Vec<Place>,
    output: Option<Place>,
    /// The border to write before the step.
    halo: Option<Halo>,
}

impl Step {
    /// The most numbers that it keeps beside its input and output, on as many threads as there may be.
    fn scratch(&self) -> u64 {
        let Some(Place { shape: Shape { width, channels, .. }, .. }) = self.inputs.first() else { return 0 };
        // A row for a pool or a resize, a block of pixels for a depthwise convolution inside another.
        let pixels = match &self.work {
            Work::ConvF32(conv) if conv.depthwise.is_some() => BLOCK_PIXELS * MAX_THREADS,
            Work::ConvI8(conv, _) if conv.depthwise.is_some() => BLOCK_PIXELS * MAX_THREADS,
            Work::MaxPool(_) | Work::Bilinear => *width,
            _ => 0,
        };
        product(&[pixels, *channels])
    }
}

#[cfg(feature = "profile")]
impl Step {
    /// Kind and shape, and multiply-accumulates.
    fn describe(&self) -> (String, usize) {
        let Some(Place { shape: out, .. }) = self.output else { return (String::new(), 0) };
        let pixels = out.height * out.width;
        let input = self.inputs.first().map_or(0, |place| place.shape.channels);
        let depthwise = |windows: &Windows| {
            let Windows { output, kernel, stride, .. } = windows;
            let macs = output.height * output.width * output.channels * kernel.height * kernel.width;
            (format!("depthwise {}x{}/{}", kernel.height, kernel.width, stride.height), macs)
        };
        let dense = |name: &str, first: Option<(String, usize)>, window: &Im2col| {
            let inputs = window.taps.len() * window.run;
            let (name, before) = match first {
                Some((first, macs)) => (format!("{first} + {name}"), macs),
                None => (format!("{name} of {inputs}"), 0),
            };
            (name, before + pixels * inputs * out.channels)
        };
        let (name, macs) = match &self.work {
            Work::ImportPlanes(_) => ("import planes".to_owned(), 0),
            Work::ImportPixels(_) => ("import pixels".to_owned(), 0),
            Work::ImportBytes(..) => ("import bytes".to_owned(), 0),
            Work::ConvF32(c) => dense("conv", c.depthwise.as_ref().map(|d| depthwise(d.windows())), &c.window),
            Work::ConvI8(c, _) => {
                dense("int8 conv", c.depthwise.as_ref().map(|d| depthwise(d.windows())), &c.window)
            }
            Work::DepthwiseF32(layer) => depthwise(layer.windows()),
            Work::DepthwiseI8(layer) => depthwise(layer.windows()),
            Work::Unary(_) => ("activation".to_owned(), 0),
            Work::Mul => ("product".to_owned(), 0),
            Work::Add(_) => ("sum".to_owned(), 0),
            Work::AddBytes(_) => ("int8 sum".to_owned(), 0),
            Work::Gate(_) => ("gate".to_owned(), 0),
            Work::Mean => ("mean".to_owned(), 0),
            Work::MaxPool(_) => ("max pool".to_owned(), 0),
            Work::Upsample => ("upsample".to_owned(), 0),
            Work::Bilinear => ("bilinear".to_owned(), 0),
            Work::Copy => ("copy".to_owned(), 0),
            Work::Shuffle(_) => ("shuffle".to_owned(), 0),
            Work::Quantize(_) => ("quantize".to_owned(), 0),
            Work::Table(_) => ("table".to_owned(), 0),
            Work::Dequantize => ("dequantize".to_owned(), 0),
        };
        (format!("{name}, {input} to {} at {}x{}", out.channels, out.width, out.height), macs)
    }
}

#[derive(Debug, Clone, Copy)]
struct Halo {
    target: PixelLayout,
    shape: Shape,
    width: usize,
    /// Elements from plane to plane, where the image is stored plane by plane.
    plane: Option<usize>,
    byte: u8,
}

/// A graph ready to run: its steps, and the memory that they need.
#[derive(Debug)]
pub(super) struct Plan {
    isa: Isa,
    steps: Vec<Step>,
    outputs: Vec<Place>,
    /// Elements of each of the arena's vectors.
    floats: Vec<usize>,
    bytes: Vec<usize>,
}

/// The memory a plan runs in; used again for the next image.
#[derive(Debug, Default)]
pub(super) struct Arena {
    pool: Arc<ThreadPool>,
    floats: Vec<Vec<f32>>,
    bytes: Vec<Vec<u8>>,
    scratch_floats: Vec<f32>,
    scratch_bytes: Vec<u8>,
    scratch_words: Vec<u16>,
    sums: Vec<i32>,
}

impl Arena {
    /// Memory for plans that `pool` runs.
    pub(super) fn of(pool: ThreadPool) -> Arena {
        Arena { pool: Arc::new(pool), ..Arena::default() }
    }

    pub(super) fn pool(&self) -> &ThreadPool {
        &self.pool
    }
}

/// A result, still where it was computed.
pub(super) struct Output<'a> {
    place: &'a Place,
    arena: &'a Arena,
}

impl Output<'_> {
    pub(super) fn shape(&self) -> Shape {
        self.place.shape
    }

    /// Pixels by channels, where nothing lies between them.
    pub(super) fn pixels(&self) -> Option<&[f32]> {
        let Place { shape: Shape { height, width, channels }, target, kind, buffer, .. } = *self.place;
        let is_dense = kind == Kind::Float && (target.pixel, target.row) == (channels, width * channels);
        is_dense.then(|| &self.arena.floats[buffer][target.origin..][..height * target.row])
    }

    /// Writes it pixel by pixel, or channel by channel.
    pub(super) fn write(&self, in_pixels: bool, to: &mut [f32]) {
        let Place { target, kind, buffer, .. } = *self.place;
        match kind {
            Kind::Float => self.convert(&self.arena.floats[buffer], target, |x| x, in_pixels, to),
            Kind::Byte(quant) => {
                let scale = scale(quant);
                self.convert(&self.arena.bytes[buffer], target, |byte| scale.number(byte), in_pixels, to);
            }
        }
    }

    fn convert<T: Copy>(
        &self,
        from: &[T],
        target: PixelLayout,
        number: impl Fn(T) -> f32,
        in_pixels: bool,
        to: &mut [f32],
    ) {
        if in_pixels {
            layout::pixels_together(from, target, self.place.shape, to, number);
        } else {
            layout::pixels_into_planes(from, target, self.place.shape.size(), to, number);
        }
    }
}

impl Plan {
    /// Plans `net` for an instruction set.
    pub(super) fn new(net: &Net, isa: Isa) -> Plan {
        Planner::new(net, isa).plan()
    }

    /// Bytes of the memory that it runs in, with copies of its results.
    #[cold]
    pub(super) fn memory_bytes(&self) -> u64 {
        let mut floats = self.steps.iter().map(Step::scratch).max().unwrap_or(0);
        for length in &self.floats {
            floats = floats.saturating_add(*length as u64);
        }
        for Place { shape: Shape { height, width, channels }, .. } in &self.outputs {
            floats = floats.saturating_add(product(&[*height, *width, *channels]));
        }
        let mut bytes = floats.saturating_mul(4);
        for length in &self.bytes {
            bytes = bytes.saturating_add(*length as u64);
        }
        bytes
    }

    /// Runs the plan on planes of floats and hands each output to `finish`.
    pub(super) fn run(&self, arena: &mut Arena, inputs: &[&[f32]], finish: impl FnMut(Output<'_>)) {
        self.prepare(arena);
        let pool = arena.pool.clone();
        let _awake = pool.wake();
        #[cfg(not(feature = "profile"))]
        for step in &self.steps {
            self.step(step, arena, inputs);
        }
        #[cfg(feature = "profile")]
        for (number, step) in self.steps.iter().enumerate() {
            let (name, macs) = step.describe();
            super::profile::timed(format!("{number:02} {name}"), macs, || self.step(step, arena, inputs));
        }
        let outputs = self.outputs.iter().map(|place| Output { place, arena });
        #[cfg(not(feature = "profile"))]
        outputs.for_each(finish);
        #[cfg(feature = "profile")]
        super::profile::timed("results".to_owned(), 0, || outputs.for_each(finish));
    }

    fn prepare(&self, arena: &mut Arena) {
        arena.floats.resize_with(self.floats.len(), Vec::new);
        for (vector, length) in arena.floats.iter_mut().zip(&self.floats) {
            if vector.len() != *length {
                vector.resize(*length, 0.0);
            }
        }
        arena.bytes.resize_with(self.bytes.len(), Vec::new);
        for (vector, length) in arena.bytes.iter_mut().zip(&self.bytes) {
            if vector.len() != *length {
                vector.resize(*length, 0);
            }
        }
    }

    /// Runs a step: its output's memory is taken out of the arena, so that inputs can be read beside it.
    fn step(&self, step: &Step, arena: &mut Arena, inputs: &[&[f32]]) {
        let Some(output) = step.output else { return };
        match output.kind {
            Kind::Float => {
                let mut memory = std::mem::take(&mut arena.floats[output.buffer]);
                if let Some(halo) = &step.halo {
                    halo.fill(&mut memory, 0.0);
                }
                self.step_to_floats(step, output, &mut memory, arena, inputs);
                arena.floats[output.buffer] = memory;
            }
            Kind::Byte(_) => {
                let mut memory = std::mem::take(&mut arena.bytes[output.buffer]);
                if let Some(halo) = &step.halo {
                    halo.fill(&mut memory, halo.byte);
                }
                self.step_to_bytes(step, output, &mut memory, arena, inputs);
                arena.bytes[output.buffer] = memory;
            }
        }
    }

    fn step_to_floats(&self, step: &Step, output: Place, to: &mut [f32], arena: &mut Arena, inputs: &[&[f32]]) {
        let (isa, size) = (self.isa, output.shape.size());
        let to = ViewMut { data: to, layout: output.target };
        match (&step.work, &step.inputs[..]) {
            (Work::ImportPlanes(input), _) => {
                let plane = output.plane.unwrap_or_default();
                let planes = PlaneLayout { origin: to.layout.origin, plane, row: to.layout.row };
                layout::planes_into_planes(inputs[*input], size, to.data, planes);
            }
            (Work::ImportPixels(input), _) => {
                layout::planes_into_pixels(isa, inputs[*input], size, to.data, to.layout)
            }
            (Work::ConvF32(conv), [input]) => {
                let source = &arena.floats[input.buffer];
                conv.run(isa, &arena.pool, source, to.data, to.layout, &mut arena.scratch_floats);
            }
            (Work::ConvI8(conv, OutputI8::Activated(activation)), [input]) => {
                let sink = SinkI8::F32(*activation, to.data);
                let source = &arena.bytes[input.buffer];
                conv.run(isa, &arena.pool, source, sink, to.layout, &mut arena.scratch_bytes);
            }
            (Work::DepthwiseF32(layer), [input]) => {
                layer.run(isa, &arena.pool, &arena.floats[input.buffer], to.data, to.layout)
            }
            (Work::Mean, [input]) => mean(isa, *input, &mut to.data[to.layout.origin..], arena),
            (Work::Dequantize, [input]) => {
                let scale = input.scale();
                elementwise::map(isa, input.shape, input.view(&arena.bytes), to, |x| scale.number(x));
            }
            (Work::Add(activation), [a, b]) => {
                let both = [a, b].map(|image| image.view(&arena.floats));
                elementwise::sum(isa, output.shape, both, to, *activation);
            }
            (Work::Mul, [a, b]) => {
                let both = [a, b].map(|image| image.view(&arena.floats));
                elementwise::product(isa, output.shape, both, to);
            }
            (Work::Gate(_), [x, gate]) => {
                let gates = gate.numbers(&arena.floats);
                elementwise::gate_floats(isa, output.shape, x.view(&arena.floats), gates, to);
            }
            (Work::Unary(activation), [input]) => {
                elementwise::activation(isa, output.shape, input.view(&arena.floats), to, *activation);
            }
            (Work::Bilinear, [input]) => {
                let rows = &mut arena.scratch_floats;
                resize::bilinear_floats(isa, input.shape, input.view(&arena.floats), to, rows);
            }
            (work, [input]) => {
                let source = input.view(&arena.floats);
                rearrange(isa, work, [input.shape, output.shape], source, to, &mut arena.scratch_floats);
            }
            (work, _) => unreachable!("{work:?} gives no floats from {} images", step.inputs.len()),
        }
    }

    fn step_to_bytes(&self, step: &Step, output: Place, to: &mut [u8], arena: &mut Arena, inputs: &[&[f32]]) {
        let (isa, size) = (self.isa, output.shape.size());
        let to = ViewMut { data: to, layout: output.target };
        match (&step.work, &step.inputs[..]) {
            (Work::ImportBytes(input, quantize, alone), _) => {
                layout::planes_into_bytes(isa, inputs[*input], size, to.data, to.layout, *quantize, *alone);
            }
            (Work::ConvI8(conv, OutputI8::Requantized(requantize)), [input]) => {
                let sink = SinkI8::U8(*requantize, to.data);
                let source = &arena.bytes[input.buffer];
                conv.run(isa, &arena.pool, source, sink, to.layout, &mut arena.scratch_bytes);
            }
            (Work::DepthwiseI8(layer), [input]) => {
                layer.run(isa, &arena.pool, &arena.bytes[input.buffer], to.data, to.layout)
            }
            (Work::Quantize(quantize), [input]) => {
                elementwise::quantize(isa, output.shape, input.view(&arena.floats), to, *quantize);
            }
            (Work::Gate(quantize), [x, gate]) => {
                let (source, gates) = (x.view(&arena.bytes), gate.numbers(&arena.floats));
                elementwise::gate_bytes(isa, output.shape, source, x.scale(), gates, to, *quantize);
            }
            (Work::AddBytes(sum), [a, b]) => {
                let both = [a, b].map(|image| image.view(&arena.bytes));
                elementwise::sum_of_bytes(isa, output.shape, both, to, *sum);
            }
            (Work::Table(table), [input]) => {
                let source = input.view(&arena.bytes);
                elementwise::map(isa, output.shape, source, to, |x| table[usize::from(x)]);
            }
            (Work::Bilinear, [input]) => {
                let Scale { zero, .. } = output.scale();
                let rows = &mut arena.scratch_words;
                resize::bilinear_bytes(isa, input.shape, input.view(&arena.bytes), to, zero, rows);
            }
            (work, [input]) => {
                let source = input.view(&arena.bytes);
                rearrange(isa, work, [input.shape, output.shape], source, to, &mut arena.scratch_bytes);
            }
            (work, _) => unreachable!("{work:?} gives no bytes from {} images", step.inputs.len()),
        }
    }
}

/// The mean of each channel, of floats or bytes.
fn mean(isa: Isa, input: Place, means: &mut [f32], arena: &mut Arena) {
    match input.kind {
        Kind::Float => pool::means_of_floats(isa, input.shape, input.view(&arena.floats), means),
        Kind::Byte(_) => {
            let source = input.view(&arena.bytes);
            pool::means_of_bytes(isa, input.shape, source, input.scale(), &mut arena.sums, means);
        }
    }
}

/// Work that selects and moves numbers without computing with them, which is the same for floats and bytes.
fn rearrange<T: Copy + Default + PartialOrd>(
    isa: Isa,
    work: &Work,
    [from, into]: [Shape; 2],
    source: View<'_, T>,
    to: ViewMut<'_, T>,
    scratch: &mut Vec<T>,
) {
    match work {
        Work::MaxPool(window) => pool::max_pool(isa, *window, from, source, into.size(), to, scratch),
        Work::Upsample => resize::upsample(isa, from, source, to),
        Work::Copy => elementwise::copy(isa, into, source, to),
        Work::Shuffle(parts) => elementwise::shuffle(isa, into, *parts, source, to),
        other => unreachable!("{other:?} gives no such numbers from one image"),
    }
}

impl Halo {
    fn fill<T: Copy>(&self, memory: &mut [T], value: T) {
        match self.plane {
            None => layout::fill_halo(memory, self.target, self.shape, self.width, value),
            Some(distance) => {
                let shape = Shape { channels: 1, ..self.shape };
                for plane in 0..self.shape.channels {
                    let target = PixelLayout { origin: self.target.origin + plane * distance, ..self.target };
                    layout::fill_halo(memory, target, shape, self.width, value);
                }
            }
        }
    }
}

/// What a byte stands for.
fn scale(Quant { scale, zero, .. }: Quant) -> Scale {
    Scale { scale, zero }
}

/// The bytes of floats that a Quantize node clamps to `low..=high`.
fn quantize(quant: Quant, low: f32, high: f32) -> Quantize {
    let inverse_scale = 1.0 / quant.scale;
    Quantize {
        inverse_scale,
        low: (low * inverse_scale).max((quant.low - quant.zero) as f32),
        high: (high * inverse_scale).min((quant.high - quant.zero) as f32),
        zero: quant.zero,
    }
}

/// What makes a plan of a net.
struct Planner<'a> {
    net: &'a Net,
    isa: Isa,
    uses: Vec<usize>,
    /// Depthwise nodes that run as part of the pointwise node after them.
    inside: Vec<bool>,
    buffers: Vec<Buffer>,
    /// Buffer and first channel of each node's image.
    place: Vec<Option<(usize, usize)>>,
}

impl<'a> Planner<'a> {
    fn new(net: &'a Net, isa: Isa) -> Planner<'a> {
        let count = net.nodes.len();
        Planner {
            net,
            isa,
            uses: net.uses(),
            inside: vec![false; count],
            buffers: Vec::new(),
            place: vec![None; count],
        }
    }

    fn plan(mut self) -> Plan {
        self.find_pairs();
        self.lay_out();
        self.borders();
        let mut steps = Vec::new();
        for id in 0..self.net.nodes.len() {
            self.steps_of(id, &mut steps);
        }
        let outputs: Vec<Place> = self.net.outputs.iter().filter_map(|id| self.place_of(*id)).collect();
        self.lifetimes(&steps, &outputs);
        let (floats, bytes) = self.share_memory();
        for step in &mut steps {
            step.halo = step.output.and_then(|place| self.halo_before(place.buffer));
            for place in step.inputs.iter_mut().chain(&mut step.output) {
                place.buffer = self.buffers[place.buffer].memory;
            }
        }
        let outputs = outputs.into_iter().map(|p| Place { buffer: self.buffers[p.buffer].memory, ..p }).collect();
        Plan { isa: self.isa, steps, outputs, floats, bytes }
    }

    fn conv(&self, id: Id) -> Option<&'a Conv> {
        match &self.net.nodes[id].op {
            Op::Conv(conv) => Some(conv),
            _ => None,
        }
    }

    /// A depthwise convolution whose only reader is a pointwise one runs inside that one.
    fn find_pairs(&mut self) {
        for (id, node) in self.net.nodes.iter().enumerate() {
            let Some(conv) = self.conv(id) else { continue };
            let pointwise = !conv.depthwise && conv.kernel == (1, 1) && conv.stride == (1, 1) && conv.pad == (0, 0);
            let same_size = {
                let before = self.net.nodes[node.inputs[0]].shape;
                (before.height, before.width) == (node.shape.height, node.shape.width)
            };
            let before = node.inputs[0];
            let Some(depthwise) = self.conv(before) else { continue };
            let one_kind = conv.int8.is_some() == depthwise.int8.is_some();
            if pointwise && same_size && depthwise.depthwise && one_kind && self.uses[before] == 1 {
                self.inside[before] = true;
            }
        }
    }

    /// Whether the node is an input that its only reader quantises on the way in.
    fn imported_as_bytes(&self, id: Id) -> bool {
        matches!(self.net.nodes[id].op, Op::Input(_))
            && !self.net.outputs.contains(&id)
            && self
                .readers(id)
                .all(|reader| matches!(reader.op, Op::Quantize { .. }) && reader.shape == self.net.nodes[id].shape)
    }

    fn readers(&self, id: Id) -> impl Iterator<Item = &'a super::net::Node> {
        self.net.nodes.iter().filter(move |node| node.inputs.contains(&id))
    }

    /// Gives every image a buffer: its own, or a part of another one's.
    fn lay_out(&mut self) {
        let nodes = &self.net.nodes;
        // From the last concatenation to the first: an outer one takes the inner one's buffer in.
        for id in (0..nodes.len()).rev() {
            if !matches!(nodes[id].op, Op::Concat) || self.place[id].is_some() {
                continue;
            }
            self.own_buffer(id, nodes[id].shape.channels, false);
            self.take_in(id);
        }
        for (id, node) in nodes.iter().enumerate() {
            if self.place[id].is_some() || self.inside[id] || self.imported_as_bytes(id) {
                continue;
            }
            match node.op {
                Op::Slice(first) => {
                    // What it is cut from comes before it and has its place already.
                    if let Some((buffer, channel)) = self.place[node.inputs[0]] {
                        self.place[id] = Some((buffer, channel + first));
                    }
                }
                Op::Input(_) => {
                    // Few channels make bad vectors: a picture stays plane by plane if only its first convolution
                    // looks at it.
                    let planar = node.shape.channels <= 4
                        && !self.net.outputs.contains(&id)
                        && self.readers(id).all(|r| matches!(&r.op, Op::Conv(conv) if !conv.depthwise));
                    self.own_buffer(id, node.shape.channels, planar);
                }
                Op::Quantize { .. } if node.shape.channels == 3 => self.own_buffer(id, 4, false),
                _ => self.own_buffer(id, node.shape.channels, false),
            }
        }
    }

    fn own_buffer(&mut self, id: Id, pixel: usize, planar: bool) {
        let node = &self.net.nodes[id];
        self.place[id] = Some((self.buffers.len(), 0));
        self.buffers.push(Buffer {
            kind: node.kind,
            shape: node.shape,
            pixel,
            halo: 0,
            planar,
            lifetime: None,
            has_border: false,
            memory: 0,
        });
    }

    /// Lets the inputs of a placed concatenation lie in its buffer, as far as they can, and those of concatenations among
    /// them.
    fn take_in(&mut self, outer: Id) {
        let Some((buffer, first)) = self.place[outer] else { return };
        let kept_out = self.kept_out(outer);
        // Concatenations, and the channel where each begins. Not by recursion: files can be deep.
        let mut open = vec![(outer, first)];
        while let Some((concat, mut channel)) = open.pop() {
            for &input in &self.net.nodes[concat].inputs {
                let node = &self.net.nodes[input];
                // Whoever writes a part must not read from the same memory, nor a copy be made within it.
                let reads_it = node.inputs.iter().any(|i| self.place[*i].is_some_and(|(b, _)| b == buffer));
                let free = self.place[input].is_none()
                    && !self.inside[input]
                    && !reads_it
                    && !kept_out[input]
                    && !matches!(node.op, Op::Slice(_) | Op::Input(_))
                    && std::mem::discriminant(&node.kind) == std::mem::discriminant(&self.net.nodes[concat].kind);
                if free {
                    self.place[input] = Some((buffer, channel));
                    if matches!(node.op, Op::Concat) {
                        open.push((input, channel));
                    }
                }
                channel += node.shape.channels;
            }
        }
    }

    /// Inputs of a concatenation, and of those among them, that cannot lie in its buffer: those that are in it twice, and
    /// those that are read to compute others, also by depthwise convolutions inside them, and through slices and
    /// concatenations, which lie in what they are made of.
    fn kept_out(&self, outer: Id) -> Vec<bool> {
        let nodes = &self.net.nodes;
        let (mut seen, mut kept_out) = (vec![false; nodes.len()], vec![false; nodes.len()]);
        let (mut concats, mut writers) = (vec![outer], Vec::new());
        while let Some(concat) = concats.pop() {
            for &input in &nodes[concat].inputs {
                if std::mem::replace(&mut seen[input], true) {
                    kept_out[input] = true;
                } else if matches!(nodes[input].op, Op::Concat) {
                    concats.push(input);
                } else {
                    writers.push(input);
                }
            }
        }
        let mut read = vec![false; nodes.len()];
        while let Some(writer) = writers.pop() {
            for &id in &nodes[writer].inputs {
                let through = self.inside[id] || matches!(nodes[id].op, Op::Slice(_) | Op::Concat);
                kept_out[id] = true;
                if through && !std::mem::replace(&mut read[id], true) {
                    writers.push(id);
                }
            }
        }
        kept_out
    }

    /// Widens each buffer's border to what its readers' windows reach.
    fn borders(&mut self) {
        for id in 0..self.net.nodes.len() {
            let Some(conv) = self.conv(id) else { continue };
            let input = self.net.nodes[id].inputs[0];
            let Some((buffer, _)) = self.place[input] else { continue };
            let (image, out) = (self.net.nodes[input].shape, self.net.nodes[id].shape);
            let after = |out: usize, stride: usize, kernel: usize, dilation: usize, pad: usize, length: usize| {
                ((out - 1) * stride + (kernel - 1) * dilation + 1).saturating_sub(pad + length)
            };
            let below = after(out.height, conv.stride.0, conv.kernel.0, conv.dilation.0, conv.pad.0, image.height);
            let right = after(out.width, conv.stride.1, conv.kernel.1, conv.dilation.1, conv.pad.1, image.width);
            let halo = conv.pad.0.max(conv.pad.1).max(below).max(right);
            self.buffers[buffer].halo = self.buffers[buffer].halo.max(halo);
        }
    }

    fn place_of(&self, id: Id) -> Option<Place> {
        let (buffer, channel) = self.place[id]?;
        let (b, node) = (&self.buffers[buffer], &self.net.nodes[id]);
        Some(Place {
            buffer,
            target: b.target(channel),
            shape: node.shape,
            kind: node.kind,
            plane: b.planar.then(|| b.plane()),
        })
    }

    fn steps_of(&self, id: Id, steps: &mut Vec<Step>) {
        let node = &self.net.nodes[id];
        let Some(output) = self.place_of(id) else { return };
        let mut push = |work, inputs: &[Id]| {
            let inputs: Vec<Place> = inputs.iter().filter_map(|input| self.place_of(*input)).collect();
            steps.push(Step { work, inputs, output: Some(output), halo: None });
        };
        match &node.op {
            Op::Input(number) if output.plane.is_some() => push(Work::ImportPlanes(*number), &[]),
            Op::Input(number) => push(Work::ImportPixels(*number), &[]),
            Op::Conv(conv) => {
                let (work, input) = self.convolution(id, conv);
                push(work, &[input]);
            }
            Op::Unary(activation) => push(Work::Unary(*activation), &node.inputs),
            Op::Mul => push(Work::Mul, &node.inputs),
            Op::Add(activation) => match node.kind {
                Kind::Float => push(Work::Add(*activation), &node.inputs),
                Kind::Byte(quant) => {
                    let read = [0, 1].map(|i| match self.net.nodes[node.inputs[i]].kind {
                        Kind::Byte(quant) => quant,
                        Kind::Float => unreachable!("a sum in bytes is one of bytes"),
                    });
                    let (low, high, slope) = bounds(*activation);
                    push(
                        Work::AddBytes(ByteSum {
                            scales: read.map(scale),
                            is_7_bit: read.iter().all(|quant| quant.is_7_bit()),
                            slope,
                            quantize: quantize(quant, low, high),
                        }),
                        &node.inputs,
                    );
                }
            },
            Op::Gate => {
                let quantize = match node.kind {
                    Kind::Byte(quant) => quantize(quant, f32::NEG_INFINITY, f32::INFINITY),
                    Kind::Float => Quantize { inverse_scale: 1.0, low: 0.0, high: 0.0, zero: 0 },
                };
                push(Work::Gate(quantize), &node.inputs);
            }
            Op::Mean => push(Work::Mean, &node.inputs),
            Op::MaxPool(window) => push(Work::MaxPool(*window), &node.inputs),
            Op::Upsample => push(Work::Upsample, &node.inputs),
            Op::Bilinear => push(Work::Bilinear, &node.inputs),
            Op::Shuffle(parts) => push(Work::Shuffle(*parts), &node.inputs),
            Op::Slice(_) => {}
            Op::Concat => {
                let (_, mut channel) = self.place[id].unwrap_or_default();
                for input in &node.inputs {
                    let part = &self.net.nodes[*input];
                    if self.place[*input] != Some((output.buffer, channel))
                        && let Some(from) = self.place_of(*input)
                    {
                        let target = self.buffers[output.buffer].target(channel);
                        let to = Place { target, shape: part.shape, ..output };
                        let inputs = vec![from];
                        steps.push(Step { work: Work::Copy, inputs, output: Some(to), halo: None });
                    }
                    channel += part.shape.channels;
                }
            }
            Op::Quantize { low, high } => {
                let Kind::Byte(quant) = node.kind else { return };
                let quantize = quantize(quant, *low, *high);
                let input = node.inputs[0];
                match (&self.net.nodes[input].op, self.net.nodes[input].kind) {
                    (Op::Input(number), _) if self.place[input].is_none() => {
                        let alone = self.buffers[output.buffer].shape == node.shape;
                        push(Work::ImportBytes(*number, quantize, alone), &[]);
                    }
                    (_, Kind::Float) => push(Work::Quantize(quantize), &node.inputs),
                    (_, Kind::Byte(from)) => {
                        let mut table = Box::new([0; 256]);
                        for (byte, entry) in table.iter_mut().enumerate() {
                            *entry = quantize.byte((byte as i32 - from.zero) as f32 * from.scale);
                        }
                        push(Work::Table(table), &node.inputs);
                    }
                }
            }
            Op::Dequantize => push(Work::Dequantize, &node.inputs),
        }
    }

    /// The step of a convolution, with the depthwise one before it if that runs inside, and what it reads.
    fn convolution(&self, id: Id, conv: &Conv) -> (Work, Id) {
        let node = &self.net.nodes[id];
        let before = node.inputs[0];
        let out_kind = node.kind;
        if conv.depthwise {
            let Some(input) = self.place_of(before) else { unreachable!("what is read has a place") };
            let windows = self.windows(conv, input, node.shape);
            let work = match conv.int8 {
                Some(_) => Work::DepthwiseI8(Box::new(self.depthwise_i8(conv, windows, input.kind, out_kind))),
                None => Work::DepthwiseF32(Box::new(depthwise_f32(conv, windows))),
            };
            return (work, before);
        }
        if self.inside[before]
            && let Some(first) = self.conv(before)
            && let Some(input) = self.place_of(self.net.nodes[before].inputs[0])
        {
            let inner = &self.net.nodes[before];
            let channels = inner.shape.channels;
            let windows = self.windows(first, input, inner.shape);
            let window = Im2col {
                output: node.shape.size(),
                origin: 0,
                row_step: 0,
                column_step: channels,
                taps: vec![0],
                run: channels,
            };
            let reads = inner.inputs[0];
            if first.int8.is_some() {
                let depthwise = self.depthwise_i8(first, windows, input.kind, inner.kind);
                let (conv, sink) = self.conv_i8(conv, window, inner.kind, out_kind, |_, k| (k, 0, 0));
                return (Work::ConvI8(Box::new(ConvI8 { depthwise: Some(depthwise), ..conv }), sink), reads);
            }
            let weights = conv.weights.floats();
            let weights = WeightsF32::pack(self.isa, channels, &conv.bias, |o, k| weights[conv.at(o, k, 0, 0)]);
            let depthwise = Some(depthwise_f32(first, windows));
            let conv = ConvF32 { window, weights, activation: conv.activation, depthwise };
            return (Work::ConvF32(Box::new(conv)), reads);
        }
        let Some(input) = self.place_of(before) else { unreachable!("what is read has a place") };
        let (window, order) = dense_window(conv, input, node.shape);
        let (taps, run) = (window.taps.len(), window.run);
        if conv.int8.is_some() {
            let (conv, sink) = self.conv_i8(conv, window, input.kind, out_kind, order);
            return (Work::ConvI8(Box::new(conv), sink), before);
        }
        let weights = conv.weights.floats();
        let weights = WeightsF32::pack(self.isa, taps * run, &conv.bias, |o, k| {
            let (input, y, x) = order(k / run, k % run);
            weights[conv.at(o, input, y, x)]
        });
        let conv = ConvF32 { window, weights, activation: conv.activation, depthwise: None };
        (Work::ConvF32(Box::new(conv)), before)
    }

    fn windows(&self, conv: &Conv, input: Place, out: Shape) -> Windows {
        let PixelLayout { origin, row, pixel } = input.target;
        Windows {
            output: out,
            kernel: conv.kernel.into(),
            stride: conv.stride.into(),
            dilation: conv.dilation.into(),
            input: PixelLayout { origin: origin - conv.pad.0 * row - conv.pad.1 * pixel, row, pixel },
        }
    }

    fn depthwise_i8(&self, conv: &Conv, windows: Windows, input: Kind, output: Kind) -> DepthwiseI8 {
        let (bias, multiplier, zero) = sums(conv, input, output);
        let Some(int8) = &conv.int8 else { unreachable!("an int8 step has integers") };
        let requantize = requantize(conv, output);
        DepthwiseI8::new(self.isa, windows, zero, &bias, &multiplier, requantize, |c, y, x| {
            int8.weights[conv.at(c, 0, y, x)]
        })
    }

    fn conv_i8(
        &self,
        conv: &Conv,
        window: Im2col,
        input: Kind,
        output: Kind,
        order: impl Fn(usize, usize) -> (usize, usize, usize),
    ) -> (ConvI8, OutputI8) {
        let (bias, multiplier, zero) = sums(conv, input, output);
        let Some(int8) = &conv.int8 else { unreachable!("an int8 step has integers") };
        let weights =
            WeightsI8::pack(self.isa, window.taps.len(), window.run, zero, &bias, &multiplier, |o, tap, k| {
                let (input, y, x) = order(tap, k);
                // Where a pixel has more bytes than channels.
                if input < conv.inputs() { int8.weights[conv.at(o, input, y, x)] } else { 0 }
            });
        let sink = match output {
            Kind::Byte(_) => OutputI8::Requantized(requantize(conv, output)),
            Kind::Float => OutputI8::Activated(conv.activation),
        };
        (ConvI8 { window, weights, depthwise: None }, sink)
    }

    /// First and last step that touches each buffer.
    fn lifetimes(&mut self, steps: &[Step], outputs: &[Place]) {
        for (number, step) in steps.iter().enumerate() {
            for place in step.inputs.iter().chain(&step.output) {
                let lifetime = &mut self.buffers[place.buffer].lifetime;
                lifetime.get_or_insert(Lifetime { first: number, last: None }).last = Some(number);
            }
        }
        for place in outputs {
            if let Some(lifetime) = &mut self.buffers[place.buffer].lifetime {
                lifetime.last = None;
            }
        }
    }

    /// Lets buffers that are never alive together share memory; gives the lengths of all memories.
    fn share_memory(&mut self) -> (Vec<usize>, Vec<usize>) {
        let alive = self.buffers.iter().enumerate();
        let mut order: Vec<(usize, Lifetime)> =
            alive.filter_map(|(b, buffer)| Some((b, buffer.lifetime?))).collect();
        order.sort_by_key(|(_, lifetime)| lifetime.first);
        // For floats and for bytes.
        let mut memories: [Vec<Memory>; 2] = [Vec::new(), Vec::new()];
        for (b, Lifetime { first, last }) in order {
            let buffer = &mut self.buffers[b];
            let length = buffer.length();
            let memories = &mut memories[usize::from(buffer.kind != Kind::Float)];
            let is_free = |memory: &Memory| memory.used_until.is_some_and(|until| until < first);
            let free = memories.iter().enumerate().filter(|(_, memory)| is_free(memory));
            // The one whose length fits best, growing it if none is long enough.
            let best = free.min_by_key(|(_, memory)| memory.length.abs_diff(length)).map(|(number, _)| number);
            buffer.memory = best.unwrap_or_else(|| {
                memories.push(Memory { length, used_until: last });
                memories.len() - 1
            });
            let memory = &mut memories[buffer.memory];
            *memory = Memory { length: memory.length.max(length), used_until: last };
        }
        memories.map(|memories| memories.into_iter().map(|memory| memory.length).collect()).into()
    }

    /// The border that has to be written before the first step into a buffer.
    fn halo_before(&mut self, buffer: usize) -> Option<Halo> {
        let b = &mut self.buffers[buffer];
        if b.halo == 0 || b.has_border {
            return None;
        }
        b.has_border = true;
        let byte = match b.kind {
            Kind::Byte(quant) => quant.zero as u8,
            Kind::Float => 0,
        };
        Some(Halo { target: b.target(0), shape: b.shape, width: b.halo, plane: b.planar.then(|| b.plane()), byte })
    }
}

fn depthwise_f32(conv: &Conv, windows: Windows) -> DepthwiseF32 {
    let weights = conv.weights.floats();
    DepthwiseF32::new(windows, &conv.bias, conv.activation, |c, y, x| weights[conv.at(c, 0, y, x)])
}

/// Bias in units of the sums, what a sum is multiplied with, and the zero point of what is read.
fn sums(conv: &Conv, input: Kind, output: Kind) -> (Vec<i32>, Vec<f32>, i32) {
    let (Some(int8), Kind::Byte(quant)) = (&conv.int8, input) else { unreachable!("an int8 step reads bytes") };
    let units = int8.scales.iter().map(|scale| scale * quant.scale);
    let bias = conv.bias.iter().zip(units.clone()).map(|(bias, unit)| (bias / unit).round() as i32).collect();
    let multiplier = match output {
        Kind::Byte(out) => units.map(|unit| unit / out.scale).collect(),
        Kind::Float => units.collect(),
    };
    (bias, multiplier, quant.zero)
}

fn requantize(conv: &Conv, output: Kind) -> Requantize {
    let Kind::Byte(quant) = output else { unreachable!("floats are not requantised") };
    let (low, high, slope) = bounds(conv.activation);
    let Quantize { low, high, zero, .. } = quantize(quant, low, high);
    Requantize::new(low, high, zero, slope)
}

/// Bounds of an activation that ends in bytes, and what it multiplies numbers below zero with.
fn bounds(activation: Activation) -> (f32, f32, f32) {
    match activation {
        Activation::Clamp { low, high } => (low, high, 1.0),
        Activation::Leaky { slope } => (f32::NEG_INFINITY, f32::INFINITY, slope),
        other => unreachable!("{other:?} does not end in bytes"),
    }
}

/// Where the taps of a dense convolution lie, and which weight belongs to element `k` of the run at tap `t`: input
/// channel, kernel row, kernel column.
fn dense_window(
    conv: &Conv,
    input: Place,
    out: Shape,
) -> (Im2col, impl Fn(usize, usize) -> (usize, usize, usize) + use<>) {
    let PixelLayout { origin, row, pixel } = input.target;
    let (rows, columns) = conv.kernel;
    let (down, right) = conv.dilation;
    let channels = input.shape.channels;
    // Neighbouring taps of a row lie side by side in memory if nothing is between them.
    enum Runs {
        /// A plane's row.
        Planes,
        /// A tap's channels.
        Tap,
        /// A row of taps, with this many elements a pixel.
        Row(usize),
    }
    let bytes = input.kind != Kind::Float;
    let padded = bytes && pixel == channels.next_multiple_of(4);
    let runs = match input.plane {
        Some(_) => Runs::Planes,
        None if right == 1 && (pixel == channels || padded) => Runs::Row(pixel),
        None => Runs::Tap,
    };
    let (taps, run) = match (&runs, input.plane) {
        (Runs::Planes, Some(plane)) => {
            let (columns, run) = if right == 1 { (1, columns) } else { (columns, 1) };
            let taps = (0..channels).flat_map(|c| {
                (0..rows).flat_map(move |y| (0..columns).map(move |x| c * plane + y * down * row + x * right))
            });
            (taps.collect(), run)
        }
        (Runs::Row(width), _) => ((0..rows).map(|y| y * down * row).collect(), columns * width),
        _ => {
            let taps = (0..rows).flat_map(|y| (0..columns).map(move |x| y * down * row + x * right * pixel));
            (taps.collect(), channels)
        }
    };
    let window = Im2col {
        output: out.size(),
        origin: origin - conv.pad.0 * row - conv.pad.1 * pixel,
        row_step: conv.stride.0 * row,
        column_step: conv.stride.1 * pixel,
        taps,
        run,
    };
    let order = move |t: usize, k: usize| match runs {
        Runs::Planes if run == columns => (t / rows, t % rows, k),
        Runs::Planes => (t / (rows * columns), t / columns % rows, t % columns),
        Runs::Row(width) => (k % width, t, k / width),
        Runs::Tap => (k, t / columns, t % columns),
    };
    (window, order)
}
