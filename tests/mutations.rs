//! Any change to a model file gives an error or a model that works: never a panic, never memory without bounds.
//!
//! `PROPTEST_CASES=20000 cargo test --release --test mutations` looks further than the usual run.
#![cfg(not(target_family = "wasm"))]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::form;
use micro_yolo::{Detector, ImageView};
use proptest::prelude::*;
use prost::Message;
use tract_onnx::pb;

/// Remembers the largest single allocation of the whole test program.
struct Watched;

static LARGEST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, which is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static WATCHED: Watched = Watched;

/// These networks are 100 kB; a damaged one has no business with much more than their largest picture.
const MOST_BYTES: usize = 256 << 20;

static FORMS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let forms = ["class-rows", "objectness", "anchors", "end-to-end"].map(form);
    // Those that the engine reads without tract.
    let own = ["every-form-int8", "distribution-int8"];
    forms.into_iter().chain(own.map(|name| common::read(&format!("compress/tests/quantize/{name}.onnx")))).collect()
});

/// Loads and runs; panics if the crate does, or if it takes too much memory.
fn survive(onnx: &[u8]) -> Result<(), TestCaseError> {
    let outcome = Detector::builder().score_threshold(0.0).build(onnx).and_then(|mut detector| {
        let pixels = [90u8; 3 * 20 * 10];
        detector.detect(ImageView::rgb(&pixels, 20, 10)?)
    });
    let largest = LARGEST.swap(0, Ordering::Relaxed);
    prop_assert!(largest <= MOST_BYTES, "{} MB were allocated at once", largest >> 20);
    if let Err(error) = outcome {
        prop_assert!(error.is_model() || error.is_inference(), "{:?}", error);
        // Natively a panic inside the runtime is caught; on wasm it would not be.
        prop_assert!(!error.to_string().contains("gave up"), "{:?}", error);
    }
    Ok(())
}

/// One change to a graph. Numbers are taken modulo what there is to choose from.
#[derive(Debug, Clone)]
enum Change {
    Operator { node: usize, like: usize },
    DropAttribute { node: usize, attribute: usize },
    SetInt { node: usize, attribute: usize, value: i64 },
    SetInts { node: usize, attribute: usize, values: Vec<i64> },
    SetFloat { node: usize, attribute: usize, value: f32 },
    DropInput { node: usize, input: usize },
    Rewire { node: usize, input: usize, from: usize },
    DropNode { node: usize },
    WeightDims { weight: usize, dims: Vec<i64> },
    WeightData { weight: usize, values: Vec<i64> },
    Output { node: usize },
}

fn number() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => -3i64..8,
        1 => -200i64..5000,
        1 => prop::sample::select(vec![i64::MIN, i64::MAX, i64::from(i32::MAX), i64::from(i32::MIN), 1 << 20, 1 << 32, 1 << 40, -(1 << 40)]),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<usize>;
    let ints = || prop::collection::vec(number(), 0..6);
    prop_oneof![
        (at(), at()).prop_map(|(node, like)| Change::Operator { node, like }),
        (at(), at()).prop_map(|(node, attribute)| Change::DropAttribute { node, attribute }),
        (at(), at(), number()).prop_map(|(node, attribute, value)| Change::SetInt { node, attribute, value }),
        (at(), at(), ints()).prop_map(|(node, attribute, values)| Change::SetInts { node, attribute, values }),
        (at(), at(), any::<f32>()).prop_map(|(node, attribute, value)| Change::SetFloat { node, attribute, value }),
        (at(), at()).prop_map(|(node, input)| Change::DropInput { node, input }),
        (at(), at(), at()).prop_map(|(node, input, from)| Change::Rewire { node, input, from }),
        at().prop_map(|node| Change::DropNode { node }),
        (at(), ints()).prop_map(|(weight, dims)| Change::WeightDims { weight, dims }),
        (at(), ints()).prop_map(|(weight, values)| Change::WeightData { weight, values }),
        at().prop_map(|node| Change::Output { node }),
    ]
}

fn apply(graph: &mut pb::GraphProto, change: &Change) {
    let nodes = graph.node.len();
    let attribute =
        |graph: &mut pb::GraphProto, node: usize, index: usize, edit: &dyn Fn(&mut pb::AttributeProto)| {
            let attributes = &mut graph.node[node % nodes].attribute;
            let count = attributes.len().max(1);
            if let Some(attribute) = attributes.get_mut(index % count) {
                edit(attribute);
            }
        };
    match change {
        Change::Operator { node, like } => {
            graph.node[node % nodes].op_type = graph.node[like % nodes].op_type.clone()
        }
        Change::DropAttribute { node, attribute } => {
            let attributes = &mut graph.node[node % nodes].attribute;
            if !attributes.is_empty() {
                attributes.remove(attribute % attributes.len());
            }
        }
        Change::SetInt { node, attribute: index, value } => attribute(graph, *node, *index, &|a| a.i = *value),
        Change::SetInts { node, attribute: index, values } => {
            attribute(graph, *node, *index, &|a| a.ints.clone_from(values));
        }
        Change::SetFloat { node, attribute: index, value } => attribute(graph, *node, *index, &|a| a.f = *value),
        Change::DropInput { node, input } => {
            let inputs = &mut graph.node[node % nodes].input;
            if !inputs.is_empty() {
                inputs.remove(input % inputs.len());
            }
        }
        Change::Rewire { node, input, from } => {
            // From an earlier node, or from a weight.
            let node = node % nodes;
            let sources = node + graph.initializer.len();
            let from = from % sources.max(1);
            let name = match graph.node[..node].get(from) {
                Some(earlier) => earlier.output[0].clone(),
                None => graph.initializer[(from - node) % graph.initializer.len()].name.clone(),
            };
            let inputs = &mut graph.node[node].input;
            let count = inputs.len().max(1);
            if let Some(input) = inputs.get_mut(input % count) {
                *input = name;
            }
        }
        Change::DropNode { node } => {
            // What read it reads its input now.
            let gone = graph.node.remove(node % nodes);
            if let (Some(from), Some(to)) = (gone.input.first(), gone.output.first()) {
                for input in graph.node.iter_mut().flat_map(|node| &mut node.input) {
                    if input == to {
                        input.clone_from(from);
                    }
                }
            }
        }
        Change::WeightDims { weight, dims } => {
            // With data to match where that is possible, so that the change gets past the first check.
            let mut constants: Vec<&mut pb::TensorProto> = tensors(graph);
            let count = constants.len();
            let tensor = &mut *constants[weight % count];
            let volume: Option<i64> = dims.iter().try_fold(1i64, |a, &b| a.checked_mul(b));
            if let Some(volume) = volume.filter(|volume| (0..1 << 16).contains(volume)) {
                let size = if tensor.data_type == pb::tensor_proto::DataType::Int64 as i32 { 8 } else { 4 };
                tensor.raw_data.resize(volume as usize * size, 0);
            }
            tensor.dims.clone_from(dims);
        }
        Change::WeightData { weight, values } => {
            // The whole numbers are shapes, axes and the like.
            let mut constants: Vec<&mut pb::TensorProto> = tensors(graph)
                .into_iter()
                .filter(|tensor| tensor.data_type == pb::tensor_proto::DataType::Int64 as i32)
                .collect();
            let count = constants.len();
            if count > 0 {
                let tensor = &mut *constants[weight % count];
                for (bytes, value) in tensor.raw_data.chunks_exact_mut(8).zip(values) {
                    bytes.copy_from_slice(&value.to_le_bytes());
                }
            }
        }
        Change::Output { node } => graph.output[0].name = graph.node[node % nodes].output[0].clone(),
    }
}

/// Weights, and the values of Constant nodes.
fn tensors(graph: &mut pb::GraphProto) -> Vec<&mut pb::TensorProto> {
    let constants = graph.node.iter_mut().flat_map(|node| &mut node.attribute).filter_map(|a| a.t.as_mut());
    graph.initializer.iter_mut().chain(constants).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes(form in 0usize..5, changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..6)) {
        let mut onnx = FORMS[form].clone();
        let count = onnx.len();
        for (at, byte) in changes {
            onnx[at % count] = byte;
        }
        survive(&onnx)?;
    }

    #[test]
    fn cut_and_glued_bytes(form in 0usize..5, from in any::<usize>(), to in any::<usize>(), keep in any::<bool>()) {
        let onnx = &FORMS[form];
        let (from, to) = (from % onnx.len(), to % onnx.len());
        let mut damaged = onnx[..from].to_vec();
        if keep {
            damaged.extend_from_slice(&onnx[to..]);
        }
        survive(&damaged)?;
    }

    #[test]
    fn changed_graphs(form in 0usize..5, changes in prop::collection::vec(change(), 1..4)) {
        let mut proto = pb::ModelProto::decode(&FORMS[form][..]).expect("fixtures are ONNX");
        for change in &changes {
            apply(proto.graph.as_mut().expect("they have a graph"), change);
        }
        survive(&proto.encode_to_vec())?;
    }
}
