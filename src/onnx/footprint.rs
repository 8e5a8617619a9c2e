//! Estimates the memory that parsing a file takes, before it is parsed.
//!
//! A message of two bytes becomes a structure of hundreds of bytes, so a file of a few MB could need gigabytes.

use std::mem::size_of;

use super::messages as pb;
use super::metadata;

/// The kinds of messages that contain other messages.
#[derive(Clone, Copy)]
enum Part {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Value,
    Type,
    TensorType,
    Shape,
}

/// The needs of a file.
#[derive(Debug, Default)]
pub(super) struct Footprint {
    /// Bytes of its parsed messages, including spare room of growing lists.
    pub bytes: u64,
    /// Nodes, stored tensors, inputs and outputs of its graph.
    pub nodes: usize,
}

/// Upper bound of the bytes that parsing makes from one byte of metadata: `{1:1},` takes 57 per byte, and parts are
/// copied.
const PARSED_PER_BYTE: u64 = 100;

impl Footprint {
    /// For a damaged file, counts what precedes the damage: the parser stops there too.
    pub fn new(onnx: &[u8]) -> Footprint {
        let mut footprint = Footprint::default();
        footprint.add(Part::Model, onnx);
        footprint
    }

    fn add(&mut self, part: Part, mut bytes: &[u8]) {
        // A list doubles its capacity when it is full.
        let listed = |size: usize| 2 * size as u64;
        while let Some((tag, content)) = field(&mut bytes) {
            let Some(content) = content else {
                self.bytes += listed(size_of::<i64>());
                continue;
            };
            let (size, inner) = match (part, tag) {
                (Part::Model, 7) => (0, Some(Part::Graph)),
                (Part::Graph, 1) => (listed(size_of::<pb::NodeProto>()), Some(Part::Node)),
                (Part::Graph, 5) => (listed(size_of::<pb::TensorProto>()), Some(Part::Tensor)),
                (Part::Graph, 11 | 12) => (listed(size_of::<pb::ValueInfoProto>()), Some(Part::Value)),
                (Part::Node, 5) => (listed(size_of::<pb::AttributeProto>()), Some(Part::Attribute)),
                (Part::Attribute, 5) => (0, Some(Part::Tensor)),
                (Part::Model, 14) if is_parsed(content) => (PARSED_PER_BYTE * content.len() as u64, None),
                // Packed values are appended to their list one by one.
                (Part::Attribute, 7) | (Part::Tensor, 4 | 10) => (listed(content.len()), None),
                // Values of one byte each become values of eight.
                (Part::Attribute, 8) | (Part::Tensor, 1 | 5 | 7) => (8 * listed(content.len()), None),
                (Part::Value, 2) => (0, Some(Part::Type)),
                (Part::Type, 1) => (0, Some(Part::TensorType)),
                (Part::TensorType, 2) => (0, Some(Part::Shape)),
                (Part::Shape, 1) => (listed(size_of::<pb::Dimension>()), None),
                // Text, and values stored as raw bytes.
                _ => (listed(size_of::<pb::StringStringEntryProto>()) + content.len() as u64, None),
            };
            self.bytes += size;
            self.nodes += usize::from(matches!((part, tag), (Part::Graph, 1 | 5 | 11 | 12)));
            if let Some(inner) = inner {
                self.add(inner, content);
            }
        }
    }
}

/// Whether the value of this entry of the metadata is parsed.
fn is_parsed(mut entry: &[u8]) -> bool {
    let is_key = |key: &[u8]| metadata::PARSED.iter().any(|parsed| parsed.as_bytes() == key);
    std::iter::from_fn(|| field(&mut entry)).any(|(tag, content)| tag == 1 && content.is_some_and(is_key))
}

/// Removes the next field: its number, and its content if it has a length. `None` at the end and for a damaged field.
fn field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Option<&'a [u8]>)> {
    let key = varint(bytes)?;
    let length = match key & 7 {
        0 => return varint(bytes).map(|_| (key >> 3, None)),
        1 => 8,
        2 => usize::try_from(varint(bytes)?).ok()?,
        5 => 4,
        _ => return None,
    };
    let (content, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some((key >> 3, (key & 7 == 2).then_some(content)))
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn weights_take_what_they_hold_and_empty_messages_what_their_structure_has() {
        let weight = pb::TensorProto { raw_data: vec![7; 1 << 20], ..Default::default() };
        let graph = pb::GraphProto { initializer: vec![weight], ..Default::default() };
        let one = Footprint::new(&pb::ModelProto { graph: Some(graph), ..Default::default() }.encode_to_vec());
        assert!((1 << 20..(1 << 20) + 2000).contains(&one.bytes), "{one:?}");
        assert_eq!(one.nodes, 1);

        let attribute = vec![pb::AttributeProto::default(); 10];
        let node = vec![pb::NodeProto { attribute, ..Default::default() }; 100];
        let graph = pb::GraphProto { node, ..Default::default() };
        let onnx = pb::ModelProto { graph: Some(graph), ..Default::default() }.encode_to_vec();
        assert!(onnx.len() < 2300);
        let least = 100 * size_of::<pb::NodeProto>() + 1000 * size_of::<pb::AttributeProto>();
        let whole = Footprint::new(&onnx);
        assert!(whole.bytes > least as u64);
        assert_eq!(whole.nodes, 100);
        // Groups, ends inside a number or a field, numbers with too many bytes.
        for damaged in [&[0x0b][..], &[0x80], &[0x0a, 9, 1], &[0xff; 40], &onnx[..onnx.len() - 1]] {
            assert!(Footprint::new(damaged).bytes <= whole.bytes, "{damaged:?}");
        }
    }

    /// One value more than a power of two, so that a doubling list is nearly half empty.
    #[test]
    fn lists_of_numbers_take_what_they_hold_when_they_are_read() {
        const COUNT: usize = (1 << 16) + 1;
        let tensor = |tensor| pb::AttributeProto { t: Some(tensor), ..Default::default() };
        let lists = [
            ("floats", pb::AttributeProto { floats: vec![1.0; COUNT], ..Default::default() }),
            ("ints", pb::AttributeProto { ints: vec![1; COUNT], ..Default::default() }),
            ("float_data", tensor(pb::TensorProto { float_data: vec![1.0; COUNT], ..Default::default() })),
            ("double_data", tensor(pb::TensorProto { double_data: vec![1.0; COUNT], ..Default::default() })),
            ("int32_data", tensor(pb::TensorProto { int32_data: vec![1; COUNT], ..Default::default() })),
            ("int64_data", tensor(pb::TensorProto { int64_data: vec![1; COUNT], ..Default::default() })),
        ];
        for (name, attribute) in lists {
            let node = vec![pb::NodeProto { attribute: vec![attribute], ..Default::default() }];
            let graph = Some(pb::GraphProto { node, ..Default::default() });
            let onnx = pb::ModelProto { graph, ..Default::default() }.encode_to_vec();
            let read = pb::ModelProto::decode(&onnx[..]).unwrap().graph.unwrap();
            let read = &read.node[0].attribute[0];
            let of_tensor = read.t.as_ref().map_or(0, |tensor| {
                4 * (tensor.float_data.capacity() + tensor.int32_data.capacity())
                    + 8 * (tensor.double_data.capacity() + tensor.int64_data.capacity())
            });
            let taken = of_tensor + 4 * read.floats.capacity() + 8 * read.ints.capacity();
            assert!(taken > 4 * COUNT, "{name}: {taken}");
            let counted = Footprint::new(&onnx).bytes;
            assert!(counted >= taken as u64, "{name}: {counted} are counted, and {taken} taken");
        }
    }

    #[test]
    fn metadata_counts_by_whether_it_is_parsed() {
        let bytes = |key: &str| {
            let entry = pb::StringStringEntryProto { key: key.into(), value: "{1:1},".repeat(1000) };
            Footprint::new(&pb::ModelProto { metadata_props: vec![entry], ..Default::default() }.encode_to_vec())
                .bytes
        };
        assert!((6000..7000).contains(&bytes("description")));
        for key in metadata::PARSED {
            assert!(bytes(key) >= 600_000, "{key}");
        }
    }

    #[test]
    fn inputs_and_outputs_count_like_nodes() {
        let values = vec![pb::ValueInfoProto::default(); 3];
        let graph = pb::GraphProto { input: values.clone(), output: values, ..Default::default() };
        let onnx = pb::ModelProto { graph: Some(graph), ..Default::default() }.encode_to_vec();
        assert_eq!(Footprint::new(&onnx).nodes, 6);
    }
}
