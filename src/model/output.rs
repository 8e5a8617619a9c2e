//! Recognises which of the three output forms a network has.

use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::layout::OutputForm;
use crate::size::InputSize;

/// Recognises the form from the shape of the output and, if there are any, the class names. Also returns the number of
/// classes if the shape shows it. `output` is its name in errors.
pub(super) fn recognise(
    output: &str,
    shape: &[usize],
    names: Option<&[Arc<str>]>,
    input: InputSize,
    end_to_end: Option<bool>,
) -> Result<(OutputForm, Option<usize>)> {
    let &[1, rows, columns] = shape else {
        return Err(refuse(output, shape, "it must have three dimensions, the first of them 1"));
    };
    if rows == 0 || columns == 0 {
        return Err(refuse(output, shape, "it is empty"));
    }
    if end_to_end == Some(true) && columns != 6 {
        return Err(refuse(output, shape, "the metadata says end2end, which needs [1, M, 6]"));
    }
    // One class with objectness has 6 columns too, but then there is a row for every cell.
    let six_columns = || {
        let one_class = names.is_none_or(|names| names.len() == 1);
        if end_to_end != Some(true) && one_class && is_place_count(rows, input) {
            (OutputForm::Objectness, Some(1))
        } else {
            (OutputForm::EndToEnd, None)
        }
    };
    match names {
        Some(names) => {
            let classes = names.len();
            let class_rows = rows == 4 + classes;
            let objectness = columns == 5 + classes;
            match (class_rows, objectness) {
                (true, true) if is_place_count(rows, input) && !is_place_count(columns, input) => {
                    Ok((OutputForm::Objectness, Some(classes)))
                }
                (true, _) if columns != 6 || is_place_count(columns, input) => {
                    Ok((OutputForm::ClassRows, Some(classes)))
                }
                (_, true) if columns != 6 => Ok((OutputForm::Objectness, Some(classes))),
                _ if columns == 6 => Ok(six_columns()),
                _ => Err(refuse(
                    output,
                    shape,
                    &format!(
                        "with the {classes} classes it names it must be [1, {}, N], [1, N, {}] or [1, M, 6]",
                        4 + classes,
                        5 + classes
                    ),
                )),
            }
        }
        None if columns == 6 => Ok(six_columns()),
        // Every sensible detector has more cells than classes.
        None if rows < columns && rows > 4 => Ok((OutputForm::ClassRows, Some(rows - 4))),
        None if columns < rows && columns > 5 => Ok((OutputForm::Objectness, Some(columns - 5))),
        None => Err(refuse(
            output,
            shape,
            "it has no room for a class; it must be [1, 4 + C, N], [1, N, 5 + C] or [1, M, 6]",
        )),
    }
}

fn refuse(output: &str, shape: &[usize], why: &str) -> Error {
    Error::new(Kind::UnsupportedModel, format!("{output} is {shape:?}; {why}"))
}

/// Whether `count` is the number of predictions of a head on some of the strides 8, 16, 32, 64, with one or three
/// anchors each.
fn is_place_count(count: usize, input: InputSize) -> bool {
    let cells = |stride: u32| input.width.div_ceil(stride) as usize * input.height.div_ceil(stride) as usize;
    let strides = [8, 16, 32, 64];
    (1..1u32 << strides.len()).any(|chosen| {
        let places: usize = strides
            .iter()
            .enumerate()
            .filter(|(bit, _)| chosen >> bit & 1 == 1)
            .map(|(_, &stride)| cells(stride))
            .sum();
        count == places || count == 3 * places
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUT: InputSize = InputSize { width: 416, height: 416 };

    fn named(count: usize) -> Vec<Arc<str>> {
        (0..count).map(|class| format!("class {class}").into()).collect()
    }

    #[test]
    fn forms_of_known_detectors() {
        use OutputForm::{ClassRows, EndToEnd, Objectness};
        struct Case {
            name: &'static str,
            shape: [usize; 3],
            names: Option<usize>,
            end_to_end: Option<bool>,
            form: OutputForm,
            classes: Option<usize>,
        }
        let case =
            |name, shape, names, end_to_end, form, classes| Case { name, shape, names, end_to_end, form, classes };
        let cases = [
            case("ours, strides 16 and 32", [1, 84, 845], Some(80), None, ClassRows, Some(80)),
            case("v8", [1, 84, 3549], Some(80), None, ClassRows, Some(80)),
            case("v8 without names", [1, 84, 3549], None, None, ClassRows, Some(80)),
            case("v8, one class", [1, 5, 3549], Some(1), None, ClassRows, Some(1)),
            case("v8, two classes: 6 rows", [1, 6, 3549], Some(2), None, ClassRows, Some(2)),
            case("YOLOX", [1, 3549, 85], Some(80), None, Objectness, Some(80)),
            case("v5", [1, 10647, 85], None, None, Objectness, Some(80)),
            case("YOLOX, one class: 6 columns", [1, 3549, 6], Some(1), None, Objectness, Some(1)),
            case("v10", [1, 300, 6], Some(80), Some(true), EndToEnd, None),
            case("v10 without names", [1, 300, 6], None, None, EndToEnd, None),
            case("v10, one class", [1, 300, 6], Some(1), None, EndToEnd, None),
            case(
                "one class, end to end, as many boxes as places",
                [1, 845, 6],
                Some(1),
                Some(true),
                EndToEnd,
                None,
            ),
            case("more classes than places", [1, 1004, 169], Some(1000), None, ClassRows, Some(1000)),
            case("two classes, end to end, six boxes", [1, 6, 6], Some(2), None, EndToEnd, None),
        ];
        for Case { name, shape, names, end_to_end, form, classes } in cases {
            let names = names.map(named);
            let found = recognise("it", &shape, names.as_deref(), INPUT, end_to_end);
            assert_eq!(found.unwrap_or_else(|e| panic!("{name}: {e}")), (form, classes), "{name}");
        }
    }

    #[test]
    fn other_outputs_are_refused_with_what_was_found() {
        struct Case {
            name: &'static str,
            shape: &'static [usize],
            names: Option<usize>,
            says: &'static str,
        }
        let cases = [
            Case { name: "a classifier", shape: &[1, 1000], names: Some(1000), says: "three dimensions" },
            Case { name: "a feature map", shape: &[1, 255, 13, 13], names: None, says: "[1, 255, 13, 13]" },
            Case { name: "a batch", shape: &[2, 84, 3549], names: None, says: "three dimensions" },
            Case { name: "no classes", shape: &[1, 4, 3549], names: None, says: "no room for a class" },
            Case { name: "segmentation", shape: &[1, 116, 3549], names: Some(80), says: "[1, 84, N]" },
            Case { name: "nothing", shape: &[1, 84, 0], names: Some(80), says: "empty" },
        ];
        for Case { name, shape, names, says } in cases {
            let names = names.map(named);
            let error = recognise("it", shape, names.as_deref(), INPUT, None).unwrap_err();
            assert_eq!(error.code(), "unsupported-model", "{name}");
            assert!(error.to_string().contains(says), "{name}: {error}");
        }
    }
}
