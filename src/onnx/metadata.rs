//! The `metadata_props` of an ONNX file.

use std::sync::Arc;

use super::head::{self, Head};
use super::messages as pb;
use super::names::{self, Literal};
use crate::error::{Error, Kind, Result};
use crate::size::InputSize;

/// The metadata of a model file, as Ultralytics writes it into `metadata_props`. All fields are optional.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metadata {
    /// A sentence that describes the model.
    pub description: Option<String>,
    /// Its author.
    pub author: Option<String>,
    /// Its licence.
    pub license: Option<String>,
    /// The version of the model or of the program that wrote it.
    pub version: Option<String>,
    /// Its task, which is "detect" for detectors.
    pub task: Option<String>,
    /// The largest stride of the head, in input pixels.
    pub stride: Option<u32>,
    /// The input size for which it was made.
    pub imgsz: Option<InputSize>,
    /// Whether NMS is part of the network. The key in the file is `end2end`.
    pub end_to_end: Option<bool>,
    names: Option<String>,
    head: Option<String>,
}

/// The keys whose values are parsed. Parsing takes more memory than keeping the text.
pub(super) const PARSED: [&str; 3] = ["names", "imgsz", head::KEY];

impl Metadata {
    pub(super) fn read(proto: &pb::ModelProto) -> Metadata {
        let text = |key: &str| {
            let value = proto.metadata_props.iter().find(|entry| entry.key == key)?.value.trim();
            (!value.is_empty()).then(|| value.to_owned())
        };
        Metadata {
            description: text("description"),
            author: text("author"),
            license: text("license"),
            version: text("version"),
            task: text("task"),
            stride: text("stride").and_then(|stride| stride.parse().ok()),
            imgsz: text("imgsz").and_then(|imgsz| size(&imgsz)),
            end_to_end: text("end2end").and_then(|flag| flag.to_ascii_lowercase().parse().ok()),
            names: text("names"),
            head: text(head::KEY),
        }
    }

    /// The description of the head, if the file has one that is understood.
    pub(crate) fn head(&self) -> Option<Head> {
        Head::read(self.head.as_deref()?)
    }

    /// The class names in the order of their numbers. Missing numbers get their number as name. `None` if there are no
    /// names.
    pub(crate) fn class_names(&self) -> Result<Option<Vec<Arc<str>>>> {
        let Some(text) = &self.names else { return Ok(None) };
        let wrong = |what: String| {
            let message = format!("the model's class names cannot be read: {what}");
            Err(Error::new(Kind::UnsupportedModel, message))
        };
        let named: Vec<(usize, String)> = match names::parse(text) {
            Ok(Literal::List(items)) => {
                let mut named = Vec::with_capacity(items.len());
                for (class, item) in items.into_iter().enumerate() {
                    match item {
                        Literal::Text(name) => named.push((class, name)),
                        other => return wrong(format!("entry {class} of the list is {other}, not a text")),
                    }
                }
                named
            }
            Ok(Literal::Map(entries)) => {
                let mut named = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    let class = match &key {
                        Literal::Number(number) => number.parse::<usize>().ok(),
                        Literal::Text(text) => text.parse::<usize>().ok(),
                        _ => None,
                    };
                    match (class, value) {
                        (Some(class), Literal::Text(name)) => named.push((class, name)),
                        (_, value) => {
                            return wrong(format!("{key} is {value}; expected a class number and a text"));
                        }
                    }
                }
                named
            }
            Ok(other) => return wrong(format!("found {other}; expected a list or a map of numbers to texts")),
            Err(error) => return wrong(error),
        };
        let Some(last) = named.iter().map(|(class, _)| *class).max() else {
            return Err(Error::new(Kind::UnsupportedModel, "the model names no classes (its `names` are empty)"));
        };
        const LAST_CLASS: usize = (1 << 16) - 1;
        if last > LAST_CLASS {
            return wrong(format!("class number {last} is above {LAST_CLASS}"));
        }
        let mut names: Vec<Arc<str>> = (0..=last).map(|class| class.to_string().into()).collect();
        for (class, name) in named {
            names[class] = name.into();
        }
        Ok(Some(names))
    }
}

/// Parses `[height, width]`, `(height, width)` or one number for both.
fn size(text: &str) -> Option<InputSize> {
    let side = |literal: &Literal| match literal {
        Literal::Number(number) => number.parse::<u32>().ok(),
        _ => None,
    };
    match names::parse(text).ok()? {
        Literal::List(sides) => match &sides[..] {
            [both] => side(both).map(|side| InputSize { width: side, height: side }),
            [height, width] => Some(InputSize { width: side(width)?, height: side(height)? }),
            _ => None,
        },
        both => side(&both).map(|side| InputSize { width: side, height: side }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(entries: &[(&str, &str)]) -> Metadata {
        let metadata_props = entries
            .iter()
            .map(|(key, value)| pb::StringStringEntryProto { key: (*key).into(), value: (*value).into() })
            .collect();
        Metadata::read(&pb::ModelProto { metadata_props, ..Default::default() })
    }

    fn names(text: &str) -> Result<Option<Vec<Arc<str>>>> {
        with(&[("names", text)]).class_names()
    }

    #[test]
    fn names_in_every_spelling() {
        let cases = [
            ("{0: 'person', 1: \"dog's bed\"}", &["person", "dog's bed"][..]),
            ("{\"0\": \"person\", \"1\": \"dog's bed\"}", &["person", "dog's bed"]),
            ("[\"person\", \"dog's bed\"]", &["person", "dog's bed"]),
            ("{0: 'a', 2: 'c'}", &["a", "1", "c"]),
            ("['only',]", &["only"]),
        ];
        for (text, expected) in cases {
            let names = names(text).unwrap().unwrap();
            assert_eq!(names.iter().map(|name| &**name).collect::<Vec<_>>(), expected, "{text}");
        }
        assert_eq!(with(&[]).class_names().unwrap(), None);
    }

    #[test]
    fn names_that_make_no_sense_are_refused() {
        for text in
            ["{}", "[]", "{0: 1}", "[1, 2]", "{'a': 'b'}", "{0: 'a'", "7", "{99999999999: 'a'}", "{-1: 'a'}"]
        {
            let error = names(text).unwrap_err();
            assert_eq!(error.code(), "unsupported-model", "{text}");
        }
    }

    #[test]
    fn the_highest_class_number_is_65535() {
        assert_eq!(names("{65535: 'a'}").unwrap().unwrap().len(), 65536);
        let error = names("{65536: 'a'}").unwrap_err();
        assert!(error.to_string().ends_with("class number 65536 is above 65535"), "{error}");
    }

    #[test]
    fn ultralytics_fields() {
        let metadata = with(&[
            ("stride", "32"),
            ("imgsz", "[480, 640]"),
            ("task", "detect"),
            ("end2end", "True"),
            ("license", " MIT "),
            ("author", ""),
        ]);
        assert_eq!(metadata.stride, Some(32));
        assert_eq!(metadata.imgsz, Some(InputSize { width: 640, height: 480 }));
        assert_eq!(metadata.task.as_deref(), Some("detect"));
        assert_eq!(metadata.end_to_end, Some(true));
        assert_eq!(metadata.license.as_deref(), Some("MIT"));
        assert_eq!(metadata.author, None);
        assert_eq!(with(&[("imgsz", "416")]).imgsz, Some(InputSize { width: 416, height: 416 }));
        assert_eq!(with(&[("imgsz", "large")]).imgsz, None);
    }
}
