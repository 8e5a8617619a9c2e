//! Why the engine does not run a node.

use std::fmt;

use crate::onnx::messages::NodeProto;

/// A node that the engine does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForeignNode {
    /// Its name in the file, or that of its first output.
    pub name: String,
    /// Its ONNX operator.
    pub operator: String,
    /// Why the engine does not run it.
    pub reason: String,
}

impl ForeignNode {
    pub(crate) fn new(node: &NodeProto, reason: impl fmt::Display) -> ForeignNode {
        ForeignNode { name: node.label().to_owned(), operator: node.op_type.clone(), reason: reason.to_string() }
    }
}

impl fmt::Display for ForeignNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({}): {}", self.name, self.operator, self.reason)
    }
}

/// Why the engine cannot run a node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reason {
    /// The table does not have the operator.
    Operator,
    /// An attribute that is unknown, of another type, or out of the range that the engine knows.
    Attribute(String),
    /// An input is not there.
    Missing(usize),
    /// An input of this shape is no feature map of floats.
    NoImage(usize, Option<Vec<usize>>),
    /// An input of this shape is not known before the network runs, or of another type.
    Variable(usize, Option<Vec<usize>>),
    /// A constant of this shape is not the same number everywhere, or does not fit the image.
    Differs(usize, Vec<usize>),
    /// A map of these channels, height and width is empty, or too large.
    Size([usize; 3]),
    /// It does what the operator may do, and the engine does not.
    Form(&'static str),
    /// The engine could run it; that would not pay for a change of layout.
    #[cfg_attr(not(feature = "tract"), expect(dead_code))]
    Alone,
}

impl Reason {
    pub fn attribute(name: &str) -> Reason {
        Reason::Attribute(name.to_owned())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown =
            |shape: &Option<Vec<usize>>| shape.as_ref().map_or("?".to_owned(), |shape| format!("{shape:?}"));
        match self {
            Reason::Operator => f.write_str("the engine does not have the operator"),
            Reason::Attribute(name) => write!(f, "the engine does not know this value of its attribute {name:?}"),
            Reason::Missing(index) => write!(f, "its input {index} is missing"),
            Reason::NoImage(index, shape) => {
                write!(f, "its input {index}, {}, is no feature map [1, C, H, W] of floats", shown(shape))
            }
            Reason::Variable(index, shape) => {
                write!(f, "its input {index}, {}, is no constant of the type that the engine expects", shown(shape))
            }
            Reason::Differs(index, shape) => {
                write!(f, "its input {index}, {shape:?}, is not one number that goes with the image")
            }
            Reason::Size(shape) => write!(f, "a map of {shape:?} is empty or too large"),
            Reason::Form(what) => f.write_str(what),
            Reason::Alone => f.write_str("the engine has it, but there is no layer beside it"),
        }
    }
}
