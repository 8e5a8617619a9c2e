//! Why the engine does not run a node.

use std::fmt;

use super::value::Values;
use crate::onnx::messages::NodeProto;

/// A node that the engine does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForeignNode {
    /// The name of the node in the file, or that of its first output.
    pub name: String,
    /// Its ONNX operator.
    pub operator: String,
    /// Why the engine does not run it, and the shapes of its inputs.
    pub reason: String,
}

impl ForeignNode {
    pub(crate) fn new(node: &NodeProto, reason: Reason, values: &Values<'_>) -> ForeignNode {
        let why = match reason {
            Reason::Operator => "the engine does not have the operator".to_owned(),
            Reason::Attribute(name) => format!("the engine does not know this value of its attribute {name:?}"),
            Reason::UnknownAttribute(index) => {
                let name = node.attribute.get(index).map_or("", |attribute| &attribute.name);
                format!("the engine does not know its attribute {name:?}")
            }
            Reason::Missing(index) => format!("its input {index} is missing"),
            Reason::NoImage(index) => format!("its input {index} is no feature map [1, C, H, W] of floats"),
            Reason::Variable(index) => {
                format!("its input {index} is no constant of the type that the engine expects")
            }
            Reason::Differs(index) => format!("its input {index} is neither one number nor one for each channel"),
            Reason::Size => "a map is empty or too large".to_owned(),
            Reason::Form(what) => what.to_owned(),
            Reason::Alone => "the engine has it, but there is no layer beside it".to_owned(),
        };
        let shapes =
            node.input.iter().map(|name| match values.get(name.as_str()).and_then(|value| value.shape()) {
                Some(shape) => format!("{shape:?}"),
                None => "?".to_owned(),
            });
        let shapes = shapes.collect::<Vec<_>>().join(", ");
        let reason = format!("{why} (inputs {shapes})");
        ForeignNode { name: node.label().to_owned(), operator: node.op_type.clone(), reason }
    }
}

impl fmt::Display for ForeignNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({}): {}", self.name, self.operator, self.reason)
    }
}

/// Why the engine cannot run a node. Inputs are identified by index, attributes by name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Reason {
    /// The operator is not in the table.
    Operator,
    /// An attribute has another type, or is outside the range that the engine supports.
    Attribute(&'static str),
    UnknownAttribute(usize),
    /// An input is missing.
    Missing(usize),
    /// An input is not a feature map of floats.
    NoImage(usize),
    /// An input is not known before the network runs, or has another type.
    Variable(usize),
    /// A constant is neither one number nor one number per channel.
    Differs(usize),
    /// A map is empty or too large.
    Size,
    /// The operator allows this form, but the engine does not support it.
    Form(&'static str),
    /// The engine could run the node, but the change of layout would cost more than it gains.
    #[cfg_attr(not(feature = "tract"), expect(dead_code))]
    Alone,
}
