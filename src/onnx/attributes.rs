//! The attributes of a node.

use super::messages::{AttributeProto, AttributeType, NodeProto};

/// The attributes of a node by name. An attribute of another type than expected gives `None`.
#[derive(Clone, Copy)]
pub(crate) struct Attributes<'a>(pub &'a NodeProto);

impl<'a> Attributes<'a> {
    /// The index of the first attribute that is not in the list.
    pub fn other_than(self, known: &[&str]) -> Option<usize> {
        self.0.attribute.iter().position(|attribute| !known.contains(&attribute.name.as_str()))
    }

    pub fn has(self, name: &str) -> bool {
        self.0.attribute.iter().any(|attribute| attribute.name == name)
    }

    fn get<T>(self, name: &str, kind: AttributeType, default: T, f: impl Fn(&'a AttributeProto) -> T) -> Option<T> {
        match self.0.attribute.iter().find(|attribute| attribute.name == name) {
            None => Some(default),
            Some(attribute) => (attribute.r#type == kind as i32).then(|| f(attribute)),
        }
    }

    pub fn int(self, name: &str, default: i64) -> Option<i64> {
        self.get(name, AttributeType::Int, default, |attribute| attribute.i)
    }

    pub fn float(self, name: &str, default: f32) -> Option<f32> {
        self.get(name, AttributeType::Float, default, |attribute| attribute.f)
    }

    pub fn text(self, name: &str, default: &'static str) -> Option<&'a str> {
        self.get(name, AttributeType::String, Some(default), |attribute| str::from_utf8(&attribute.s).ok())?
    }

    /// A list of integers; empty if the attribute is missing.
    pub fn ints(self, name: &str) -> Option<&'a [i64]> {
        self.get(name, AttributeType::Ints, &[], |attribute| &attribute.ints[..])
    }
}
