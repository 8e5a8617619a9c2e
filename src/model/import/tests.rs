//! Every operator against onnxruntime (`tests/fixtures/operators.py`), computed when the network runs and, with its
//! inputs stored in the file, when it is read.

use std::collections::BTreeSet;

use crate::model::pb;
use crate::model::pb::DataType;
use prost::Message;
use serde_json::Value;
use tract_core::internal::*;

use super::read;

fn fixture(name: &str) -> Vec<Value> {
    let path = format!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/{}.json"), name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn cases() -> Vec<Value> {
    fixture("operators")
}

fn from_hex(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

fn tensor(value: &Value) -> Tensor {
    let shape: Vec<usize> =
        value["shape"].as_array().unwrap().iter().map(|s| s.as_u64().unwrap() as usize).collect();
    let values: Vec<f64> = value["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    let kind = match value["type"].as_str().unwrap() {
        "float32" => f32::datum_type(),
        "int64" => i64::datum_type(),
        "int32" => i32::datum_type(),
        "int8" => i8::datum_type(),
        "uint8" => u8::datum_type(),
        "bool" => bool::datum_type(),
        other => panic!("{other}"),
    };
    Tensor::from_shape(&shape, &values).unwrap().cast_to_dt(kind).unwrap().into_owned()
}

fn stored(name: &str, tensor: &Tensor) -> pb::TensorProto {
    let kind = match tensor.datum_type() {
        DatumType::F32 => DataType::Float,
        DatumType::I64 => DataType::Int64,
        DatumType::I32 => DataType::Int32,
        DatumType::I8 => DataType::Int8,
        DatumType::U8 => DataType::Uint8,
        DatumType::Bool => DataType::Bool,
        other => panic!("{other:?}"),
    };
    pb::TensorProto {
        name: name.to_owned(),
        data_type: kind as i32,
        dims: tensor.shape().iter().map(|&side| side as i64).collect(),
        raw_data: tensor.as_bytes().to_vec(),
        ..Default::default()
    }
}

fn differences(case: &Value, optimize: bool, store_inputs: bool) -> Result<(), String> {
    let mut proto = pb::ModelProto::decode(&from_hex(&case["onnx"])[..]).unwrap();
    let inputs = case["inputs"].as_object().unwrap();
    let graph = proto.graph.as_mut().unwrap();
    let names: Vec<String> = graph.input.iter().map(|input| input.name.clone()).collect();
    if store_inputs {
        graph.initializer.extend(names.iter().map(|name| stored(name, &tensor(&inputs[name]))));
    }
    super::super::validate::validate(&proto).map_err(|error| format!("{error:?}"))?;
    let fact = |input: &pb::ValueInfoProto| TypedFact::shape_and_dt_of(&tensor(&inputs[&input.name]));
    let model = read(&proto, &fact).map_err(|error| format!("{error:?}"))?;
    if store_inputs && model.nodes.iter().any(|node| !node.op_is::<tract_core::ops::konst::Const>()) {
        return Err("something is left to compute".to_owned());
    }
    let model = if optimize { model.into_optimized().map_err(|error| format!("{error:?}"))? } else { model };
    let values = if store_inputs { vec![] } else { names };
    let values = values.iter().map(|name| tensor(&inputs[name]).into_tvalue()).collect();
    let found = model.into_runnable().and_then(|model| model.run(values)).map_err(|error| format!("{error:?}"))?;
    let expected: Vec<Tensor> = case["outputs"].as_array().unwrap().iter().map(tensor).collect();
    if found.len() != expected.len() {
        return Err(format!("{} outputs for {}", found.len(), expected.len()));
    }
    for (found, expected) in found.iter().zip(&expected) {
        if found.shape() != expected.shape() || found.datum_type() != expected.datum_type() {
            return Err(format!("{found:?} for {expected:?}"));
        }
        // Within some units of the last place, for floats; the fixture has seven digits.
        found.close_enough(expected, Approximation::Approximate).map_err(|error| format!("{error:?}"))?;
    }
    Ok(())
}

#[test]
fn operators_compute_what_onnxruntime_computes() {
    let mut wrong = Vec::new();
    for case in &cases() {
        for (optimize, store_inputs) in [(false, false), (true, false), (false, true)] {
            if let Err(error) = differences(case, optimize, store_inputs) {
                let how = if store_inputs {
                    "stored"
                } else if optimize {
                    "optimized"
                } else {
                    "as read"
                };
                wrong.push(format!("{} ({}), {how}: {error}", case["name"], case["operator"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{} cases are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_operator_has_a_case() {
    let tested: BTreeSet<String> =
        cases().iter().map(|case| case["operator"].as_str().unwrap().to_owned()).collect();
    let known: BTreeSet<String> = super::operators::names().map(str::to_owned).collect();
    // onnxruntime does not have it yet.
    let exceptions = BTreeSet::from(["Swish".to_owned()]);
    let missing: Vec<&String> = known.difference(&tested).filter(|name| !exceptions.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The engine against onnxruntime (`tests/fixtures/int8.py`), byte by byte.
#[test]
fn int8_layers_are_within_one_quantum_of_onnxruntime() {
    for case in fixture("int8") {
        let name = &case["name"];
        let (input, output) = (&case["input"], &case["output"]);
        let grid = |side: &Value| (side["scale"].as_f64().unwrap() as f32, side["zero"].as_i64().unwrap() as i32);
        let shape: Vec<usize> =
            input["shape"].as_array().unwrap().iter().map(|s| s.as_u64().unwrap() as usize).collect();
        let (scale, zero) = grid(input);
        let floats: Vec<f32> =
            from_hex(&input["bytes"]).iter().map(|byte| (i32::from(*byte) - zero) as f32 * scale).collect();
        let picture = Tensor::from_shape(&shape, &floats).unwrap().into_tvalue();
        let expected = from_hex(&output["bytes"]);
        let (scale, zero) = grid(output);

        let proto = pb::ModelProto::decode(&from_hex(&case["onnx"])[..]).unwrap();
        let model = read(&proto, &|_| f32::fact(&shape)).unwrap();
        for (isa, model) in crate::engine::optimize_for_all(&model).unwrap() {
            let left: Vec<_> = model.nodes.iter().map(|node| node.op.name()).collect();
            assert_eq!(left, ["Source", "MicroYoloRegion"], "{name}: something is left to tract");
            let found = model.into_runnable().unwrap().run(tvec!(picture.clone())).unwrap();
            let found = found[0].as_plain_ram().unwrap().as_slice::<f32>().unwrap();
            assert_eq!(found.len(), expected.len(), "{name}");
            let apart = |(found, expected): (&f32, &u8)| {
                ((found / scale).round() as i32 + zero).abs_diff(i32::from(*expected))
            };
            let apart: Vec<u32> = found.iter().zip(&expected).map(apart).collect();
            let (most, count) = (apart.iter().max().unwrap(), apart.iter().filter(|apart| **apart > 0).count());
            assert!(*most <= 1, "{name} on {isa} is off by {most}");
            // Both round to nearest even; what differs is the last bit of the product that is rounded. Bilinear upsampling gives
            // sixteenths of a quantum, so one byte in sixteen lies half-way, where that bit decides.
            let share = if name.as_str().is_some_and(|name| name.contains("bilinear")) { 16 } else { 200 };
            assert!(count * share <= expected.len(), "{name} on {isa}: {count} of {} bytes differ", expected.len());
        }
    }
}
