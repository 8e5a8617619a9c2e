//! Estimates the memory that parsing a file takes, before it is parsed.
//!
//! A message of two bytes becomes a structure of hundreds of bytes, so a file of a few MB could need gigabytes.

use std::mem::size_of;

use super::messages as pb;

/// The kinds of messages that hold others.
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

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Footprint {
    /// Bytes that its messages take once they are read, with room for lists to grow.
    pub bytes: u64,
    /// Nodes and stored tensors of its graph.
    pub nodes: usize,
}

impl Footprint {
    /// Of a damaged file, what comes before that place: reading ends there too.
    pub fn new(onnx: &[u8]) -> Footprint {
        let mut footprint = Footprint::default();
        footprint.add(Part::Model, onnx);
        footprint
    }

    fn add(&mut self, part: Part, mut bytes: &[u8]) {
        // A list doubles when it is full.
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
                // Numbers of a byte each become numbers of eight.
                (Part::Attribute, 8) | (Part::Tensor, 1 | 5 | 7) => (8 * listed(content.len()), None),
                (Part::Value, 2) => (0, Some(Part::Type)),
                (Part::Type, 1) => (0, Some(Part::TensorType)),
                (Part::TensorType, 2) => (0, Some(Part::Shape)),
                (Part::Shape, 1) => (listed(size_of::<pb::Dimension>()), None),
                // Text, and values as they are.
                _ => (listed(size_of::<pb::StringStringEntryProto>()) + content.len() as u64, None),
            };
            self.bytes += size;
            self.nodes += usize::from(matches!((part, tag), (Part::Graph, 1 | 5)));
            if let Some(inner) = inner {
                self.add(inner, content);
            }
        }
    }
}

/// Takes the next field off: its number, and its content if it has a length. `None` at the end, and where there is none.
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
        // Groups, ends in the middle of a number or of a field, numbers of too many bytes.
        for damaged in [&[0x0b][..], &[0x80], &[0x0a, 9, 1], &[0xff; 40], &onnx[..onnx.len() - 1]] {
            assert!(Footprint::new(damaged).bytes <= whole.bytes, "{damaged:?}");
        }
    }
}
