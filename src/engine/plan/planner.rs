//! Assigns memory to the images of a network: which share memory, and how wide their borders are.

use super::Plan;
use super::place::{Buffer, Halo, Lifetime, Place};
use super::step::Step;
use crate::engine::net::{Conv, Id, Kind, Net, Node, Op};
use crate::engine::simd::Isa;

impl Plan {
    /// Plans `net` for an instruction set.
    pub(in crate::engine) fn new(net: &Net, isa: Isa) -> Plan {
        Planner::new(net, isa).plan()
    }
}

/// One of the arena's vectors, during assignment.
struct Memory {
    length: usize,
    /// The last step that needs it; `None` if it is needed to the end.
    used_until: Option<usize>,
}

/// Builds a plan of a network.
pub(super) struct Planner<'a> {
    pub(super) net: &'a Net,
    pub(super) isa: Isa,
    pub(super) uses: Vec<usize>,
    /// Depthwise nodes that run as part of the pointwise node after them.
    pub(super) inside: Vec<bool>,
    pub(super) buffers: Vec<Buffer>,
    /// For each node, the buffer and the first channel of its image.
    pub(super) place: Vec<Option<(usize, usize)>>,
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

    pub(super) fn conv(&self, id: Id) -> Option<&'a Conv> {
        match &self.net.nodes[id].op {
            Op::Conv(conv) => Some(conv),
            _ => None,
        }
    }

    /// A depthwise convolution whose only reader is a pointwise one runs inside the pointwise one.
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

    /// Whether the node is a network input whose only reader quantises it during import.
    fn imported_as_bytes(&self, id: Id) -> bool {
        matches!(self.net.nodes[id].op, Op::Input(_))
            && !self.net.outputs.contains(&id)
            && self
                .readers(id)
                .all(|reader| matches!(reader.op, Op::Quantize { .. }) && reader.shape == self.net.nodes[id].shape)
    }

    fn readers(&self, id: Id) -> impl Iterator<Item = &'a Node> {
        self.net.nodes.iter().filter(move |node| node.inputs.contains(&id))
    }

    /// Gives every image a buffer: its own, or a part of another image's buffer.
    fn lay_out(&mut self) {
        let nodes = &self.net.nodes;
        // From the last concatenation to the first, so that an outer one includes the buffers of inner ones.
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
                    // The sliced image is an earlier node and has its place already.
                    if let Some((buffer, channel)) = self.place[node.inputs[0]] {
                        self.place[id] = Some((buffer, channel + first));
                    }
                }
                Op::Input(_) => {
                    // Few channels use vectors badly. So an input image stays in planes if only its first convolution
                    // reads it.
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

    /// Places the inputs of a concatenation directly in its buffer where possible, and those of concatenations among
    /// its inputs.
    fn take_in(&mut self, outer: Id) {
        let Some((buffer, first)) = self.place[outer] else { return };
        let kept_out = self.kept_out(outer);
        // Open concatenations with their first channels. A stack instead of recursion, because files can be deep.
        let mut open = vec![(outer, first)];
        while let Some((concat, mut channel)) = open.pop() {
            for &input in &self.net.nodes[concat].inputs {
                let node = &self.net.nodes[input];
                // A step that writes a part of the buffer must not read from the same buffer, and a copy must not stay
                // within it.
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

    /// The inputs of a concatenation, and of concatenations among them, that cannot be stored in its buffer. These are
    /// inputs that occur twice, and inputs that are read to compute other inputs. Reads through depthwise convolutions
    /// that run inside others, through slices and through inner concatenations count too.
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

    /// Makes each buffer's border as wide as its readers' windows need.
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

    pub(super) fn place_of(&self, id: Id) -> Option<Place> {
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

    /// Determines the first and last step that uses each buffer.
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

    /// Lets buffers share memory if they are not needed at the same time. Returns the lengths of all memories.
    fn share_memory(&mut self) -> (Vec<usize>, Vec<usize>) {
        let alive = self.buffers.iter().enumerate();
        let mut order: Vec<(usize, Lifetime)> =
            alive.filter_map(|(b, buffer)| Some((b, buffer.lifetime?))).collect();
        order.sort_by_key(|(_, lifetime)| lifetime.first);
        // First for floats, then for bytes.
        let mut memories: [Vec<Memory>; 2] = [Vec::new(), Vec::new()];
        for (b, Lifetime { first, last }) in order {
            let buffer = &mut self.buffers[b];
            let length = buffer.length();
            let memories = &mut memories[usize::from(buffer.kind != Kind::Float)];
            let is_free = |memory: &Memory| memory.used_until.is_some_and(|until| until < first);
            let free = memories.iter().enumerate().filter(|(_, memory)| is_free(memory));
            // The memory with the closest length. It grows if it is too short.
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

    /// The border that must be written before the first step that writes into the buffer.
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
