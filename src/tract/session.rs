//! Runs the stages of a partitioned network.

use std::collections::HashMap;
use std::io::Cursor;
use std::sync::Arc;

use prost::Message;
use tract_onnx::prelude::*;

use super::along_axis;
use super::inference::unsupported;
use super::partition::{Stage, Work};
use super::{integers, runtime_check};
use crate::engine::{self, Isa};
use crate::error::{Error, Kind, Result};
use crate::limits::{Budget, product};
use crate::onnx::messages::NodeProto;
use crate::size::InputSize;

/// A divided network, ready to run. Clones share the weights.
#[derive(Clone)]
pub(crate) struct Network(Arc<Shared>);

struct Shared {
    stages: Vec<Ready>,
    /// The instruction set for what the engine computes in place of tract.
    isa: Isa,
    /// The number of tensors that are passed between stages. The image is the first.
    slots: usize,
    answer: usize,
    /// The number of values in the output.
    numbers: usize,
    input: [usize; 4],
}

/// A stage with the slots of its inputs and outputs.
struct Ready {
    program: Program,
    inputs: Vec<usize>,
    outputs: Vec<usize>,
}

enum Program {
    Engine(engine::Network),
    Tract {
        plan: Arc<TypedRunnableModel>,
        /// The maximum bytes of a tensor whose size depends on the content of the picture.
        largest: u64,
        /// Whether it has a recurrent layer. tract would continue it with the state of the last picture.
        recurs: bool,
    },
}

impl Network {
    /// Plans every stage. `shape` is that of the network's output.
    ///
    /// # Errors
    ///
    /// `unsupported-model` if tract cannot run its part, `model-too-large` if a stage needs too much memory.
    pub(super) fn new(
        stages: Vec<Stage>,
        input: InputSize,
        answer: &str,
        shape: &[usize],
        budget: &mut Budget<'_>,
    ) -> Result<Network> {
        let mut slots: HashMap<String, usize> = HashMap::new();
        let mut ready = Vec::with_capacity(stages.len());
        for Stage { work, inputs, outputs } in stages {
            // A tensor that no earlier stage has computed is the image.
            let inputs = inputs.into_iter().map(|name| slots.get(&name).copied().unwrap_or(0)).collect();
            let program = match work {
                Work::Engine(net) => {
                    let network = engine::Network::new(net);
                    budget.take(network.memory_bytes(), "")?;
                    Program::Engine(network)
                }
                Work::Tract(proto) => {
                    let plan = runnable(&proto.encode_to_vec())?;
                    let bytes = memory_bytes(&plan).map_err(|error| unsupported("a part has no shapes", error))?;
                    budget.take(bytes, "")?;
                    let recurs = |node: &NodeProto| matches!(node.op_type.as_str(), "LSTM" | "GRU" | "RNN");
                    let recurs = proto.graph.iter().flat_map(|graph| &graph.node).any(recurs);
                    Program::Tract { plan, largest: budget.memory_limit(), recurs }
                }
            };
            let outputs = outputs.into_iter().map(|name| {
                let next = slots.len() + 1;
                *slots.entry(name).or_insert(next)
            });
            let outputs = outputs.collect();
            ready.push(Ready { program, inputs, outputs });
        }
        let Some(answer) = slots.get(answer).copied() else {
            return Err(Error::new(Kind::UnsupportedModel, "the output does not depend on the image"));
        };
        let input = [1, 3, input.height as usize, input.width as usize];
        let numbers = shape.iter().product();
        Ok(Network(Arc::new(Shared {
            stages: ready,
            isa: Isa::best(),
            slots: slots.len() + 1,
            answer,
            numbers,
            input,
        })))
    }

    /// Creates what one caller needs to run the network.
    ///
    /// # Errors
    ///
    /// Those of tract.
    pub fn session(&self) -> Result<Session> {
        let failed = |error| unsupported("the network could not be made ready to run", error);
        let states = self.0.stages.iter().map(|stage| match &stage.program {
            Program::Engine(_) => Ok(State::Engine(engine::Memory::new(1))),
            Program::Tract { plan, .. } => plan.spawn().map(State::Tract).map_err(failed),
        });
        Ok(Session {
            states: states.collect::<Result<_>>()?,
            input: Arc::new(Tensor::zero::<f32>(&self.0.input).map_err(failed)?),
            tensors: vec![None; self.0.slots],
            answer: None,
            shared: self.0.clone(),
        })
    }

    /// For each stage in order, whether it runs on the engine.
    #[cfg(all(test, not(target_family = "wasm")))]
    pub fn stages(&self) -> Vec<bool> {
        self.0.stages.iter().map(|stage| matches!(stage.program, Program::Engine(_))).collect()
    }
}

/// A part of the network, as planned by tract.
fn runnable(onnx: &[u8]) -> Result<Arc<TypedRunnableModel>> {
    let model = tract_onnx::onnx().model_for_read(&mut Cursor::new(onnx));
    let model = model.and_then(InferenceModelExt::into_optimized).and_then(TypedModel::into_runnable);
    model.map_err(|error| unsupported("a part of the network cannot be made ready to run", error))
}

/// The most bytes of tensors, without constants, that exist at the same time while tract runs a part. Tensors whose
/// shape depends on the content of the picture count as 0.
fn memory_bytes(plan: &TypedRunnableModel) -> TractResult<u64> {
    let model = plan.model();
    let order = plan.order_without_consts();
    let mut last_use = vec![0; model.nodes.len()];
    for (step, id) in order.iter().enumerate() {
        for id in model.nodes[*id].inputs.iter().map(|input| input.node).chain([*id]) {
            last_use[id] = step;
        }
    }
    for output in model.output_outlets()? {
        last_use[output.node] = order.len();
    }
    let mut ends: Vec<u64> = vec![0; order.len() + 1];
    let (mut now, mut most) = (0u64, 0u64);
    for (step, id) in order.iter().enumerate() {
        let outputs = model.nodes[*id].outputs.iter();
        let bytes = outputs.map(|output| output.fact.mem_size().to_i64().map_or(0, |bytes| bytes.max(0) as u64));
        let bytes = bytes.fold(0, u64::saturating_add);
        now = now.saturating_add(bytes);
        ends[last_use[*id]] = ends[last_use[*id]].saturating_add(bytes);
        most = most.max(now);
        now -= ends[step].min(now);
    }
    Ok(most)
}

/// A running network with the tensors of one caller.
#[derive(Debug)]
pub(crate) struct Session {
    shared: Arc<Shared>,
    states: Vec<State>,
    input: Arc<Tensor>,
    tensors: Vec<Option<TValue>>,
    answer: Option<TValue>,
}

#[derive(Debug)]
enum State {
    Engine(engine::Memory),
    Tract(TypedSimpleState),
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("stages", &self.stages.len()).finish_non_exhaustive()
    }
}

impl Session {
    /// The input image, `[1, 3, H, W]`, RGB, 0 to 1, in the same memory for each call.
    ///
    /// # Errors
    ///
    /// `inference-failed` if tract changed the form of the input tensor.
    pub fn input(&mut self) -> Result<&mut [f32]> {
        let view = Arc::make_mut(&mut self.input).to_plain_array_view_mut::<f32>();
        let view = view.map_err(|error| failed("the input is not float32", error))?;
        view.into_slice().ok_or_else(|| Error::new(Kind::Inference, "the input is not in one piece"))
    }

    /// Runs the network on [`input`](Session::input) and returns its output.
    ///
    /// # Errors
    ///
    /// `inference-failed` if the network fails while it runs.
    pub fn run(&mut self) -> Result<&[f32]> {
        let result = self.stages();
        self.answer = self.tensors[self.shared.answer].take();
        // The input tensor can be written again only while nobody else holds it.
        self.tensors.fill(None);
        result?;
        let answer = self.answer.as_ref().map(values).transpose()?;
        answer
            .filter(|answer| answer.len() == self.shared.numbers)
            .ok_or_else(|| Error::new(Kind::Inference, "the output is not as large as its shape says"))
    }

    fn stages(&mut self) -> Result<()> {
        self.tensors[0] = Some(self.input.clone().into_tvalue());
        for (stage, state) in self.shared.stages.iter().zip(&mut self.states) {
            let inputs = stage.inputs.iter().filter_map(|slot| self.tensors[*slot].clone());
            let inputs: TVec<TValue> = inputs.collect();
            let outputs = match (&stage.program, state) {
                (Program::Engine(network), State::Engine(memory)) => region(network, memory, &inputs)?,
                (Program::Tract { plan, largest, recurs }, State::Tract(state)) => {
                    let failed = |error| failed("the network failed while running", error);
                    if *recurs {
                        *state = plan.spawn().map_err(failed)?;
                    }
                    part(state, inputs, *largest, self.shared.isa).map_err(failed)?
                }
                _ => TVec::new(),
            };
            for (slot, output) in stage.outputs.iter().zip(outputs) {
                self.tensors[*slot] = Some(output);
            }
        }
        Ok(())
    }
}

/// Runs a part on tract. Tensors whose sizes were unknown when it was loaded are checked against the limit here.
fn part(state: &mut TypedSimpleState, inputs: TVec<TValue>, largest: u64, isa: Isa) -> TractResult<TVec<TValue>> {
    // A failed run leaves its values and sizes in the state, because tract clears it only after success. Before the
    // first run there is nothing to clear.
    if !state.turn_state.values.is_empty() {
        state.reset_turn()?;
    }
    state.run_plan_with_eval(inputs, |context, state, node, inputs| {
        for output in &node.outputs {
            let fact = &output.fact;
            if fact.shape.as_concrete().is_none()
                && let Ok(shape) = fact.shape.eval_to_usize(context.symbols)
                && product(&shape).saturating_mul(fact.datum_type.size_of() as u64) > largest
            {
                return Err(TractError::msg(format!("a tensor of {shape:?} is larger than the limit of memory")));
            }
        }
        let inputs = runtime_check::inputs(node, inputs)?;
        if let Some(outputs) = along_axis::eval(isa, node, &inputs)? {
            return Ok(outputs);
        }
        if let Some(outputs) = integers::eval(node, &inputs)? {
            return Ok(outputs);
        }
        tract_onnx::tract_core::plan::eval(context, state, node, inputs)
    })
}

/// Runs a region of the engine.
fn region(network: &engine::Network, memory: &mut engine::Memory, inputs: &[TValue]) -> Result<TVec<TValue>> {
    let inputs = inputs.iter().map(values).collect::<Result<Vec<_>>>()?;
    let mut outputs = TVec::new();
    let mut result = Ok(());
    network.run_in_planes(memory, &inputs, |[channels, height, width], write| {
        let tensor = Tensor::zero::<f32>(&[1, channels, height, width]).and_then(|mut tensor| {
            write(tensor.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?);
            Ok(tensor)
        });
        match tensor {
            Ok(tensor) => outputs.push(tensor.into_tvalue()),
            Err(error) => result = Err(failed("there is no room for a map", error)),
        }
    });
    result.map(|()| outputs)
}

fn values(tensor: &TValue) -> Result<&[f32]> {
    let values = tensor.try_as_plain_ram().and_then(|tensor| tensor.as_slice::<f32>());
    values.map_err(|error| failed("a tensor is not float32", error))
}

fn failed(what: &str, error: TractError) -> Error {
    Error::new(Kind::Inference, what).with_source(error.into_boxed_dyn_error())
}
