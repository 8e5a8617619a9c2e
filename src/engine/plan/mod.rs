//! The engine's graph → steps over planned buffers.
//!
//! A plan decides everything that does not depend on the input: the address of each image, which images share memory,
//! how weights are packed, and how wide a border each image needs, so that kernels need not check for its edges.
//! Running a plan is a loop over its steps.
//!
//! Images are NHWC. The inputs of a concatenation are written directly into its output, and a slice is a view of its
//! input. Data is copied only if it has to be in two places.

mod place;
mod planner;
mod step;
mod steps;

use std::sync::Arc;

use super::net::{Kind, Shape};
use super::simd::elementwise;
use super::simd::gemm::{OutputI8, SinkI8};
use super::simd::image::{PixelLayout, View, ViewMut};
use super::simd::layout::PlaneLayout;
use super::simd::quantize::Scale;
use super::simd::{Isa, ThreadPool, layout, pool, resize};
use crate::limits::product;
use place::{Place, scale};
use step::{Step, Work};

/// A graph ready to run: its steps, and the memory that they need.
#[derive(Debug)]
pub(super) struct Plan {
    isa: Isa,
    steps: Vec<Step>,
    outputs: Vec<Place>,
    /// Number of elements of each of the arena's vectors of floats, then of bytes.
    floats: Vec<usize>,
    bytes: Vec<usize>,
}

/// The memory in which a plan runs. It is reused for the next image.
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
    /// Memory for plans that run on `pool`.
    pub(super) fn of(pool: ThreadPool) -> Arena {
        Arena { pool: Arc::new(pool), ..Arena::default() }
    }

    pub(super) fn pool(&self) -> &ThreadPool {
        &self.pool
    }
}

/// An output, still in the memory where it was computed.
pub(super) struct Output<'a> {
    place: &'a Place,
    arena: &'a Arena,
}

impl Output<'_> {
    pub(super) fn shape(&self) -> Shape {
        self.place.shape
    }

    /// The values pixel by pixel, if there are no gaps between pixels.
    pub(super) fn pixels(&self) -> Option<&[f32]> {
        let Place { shape: Shape { height, width, channels }, target, kind, buffer, .. } = *self.place;
        let is_dense = kind == Kind::Float && (target.pixel, target.row) == (channels, width * channels);
        is_dense.then(|| &self.arena.floats[buffer][target.origin..][..height * target.row])
    }

    /// Writes the output pixel by pixel or plane by plane.
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
    /// Bytes of memory for a run, including copies of the outputs.
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

    /// Runs the plan on images stored in planes of floats and passes each output to `finish`.
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

    /// Runs a step. The memory of its output is taken out of the arena, so that the inputs can be read at the same
    /// time.
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

/// The mean of each channel of floats or bytes.
fn mean(isa: Isa, input: Place, means: &mut [f32], arena: &mut Arena) {
    match input.kind {
        Kind::Float => pool::means_of_floats(isa, input.shape, input.view(&arena.floats), means),
        Kind::Byte(_) => {
            let source = input.view(&arena.bytes);
            pool::means_of_bytes(isa, input.shape, source, input.scale(), &mut arena.sums, means);
        }
    }
}

/// Operations that only select and move values, which are the same for floats and bytes.
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
