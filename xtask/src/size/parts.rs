//! Determines which crates a WebAssembly module's code comes from, by the names in its name section.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result};
use wasmparser::{KnownCustom, Name, Parser, Payload, TypeRef};

/// Bytes of code of each crate, and of `engine`, which is our own compute kernels; the largest first.
///
/// A generic function counts for the crate with which its name begins, not for its caller: a sort of tract's axes
/// counts for `core`.
///
/// # Errors
///
/// If the module is damaged.
pub fn code_by_crate(module: &[u8]) -> Result<Vec<(String, usize)>> {
    let mut imported = 0;
    let mut sizes = Vec::new();
    let mut names = HashMap::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload.context("reading the module")? {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    imported += u32::from(matches!(import?.ty, TypeRef::Func(_)));
                }
            }
            Payload::CodeSectionEntry(body) => sizes.push(body.range().len()),
            Payload::CustomSection(section) => {
                let KnownCustom::Name(subsections) = section.as_known() else { continue };
                for subsection in subsections {
                    let Name::Function(functions) = subsection? else { continue };
                    for naming in functions {
                        let naming = naming?;
                        names.insert(naming.index, naming.name);
                    }
                }
            }
            _ => {}
        }
    }
    let mut crates: BTreeMap<String, usize> = BTreeMap::new();
    for (index, size) in (imported..).zip(sizes) {
        let name = names.get(&index).copied().unwrap_or_default();
        *crates.entry(crate_of(name)).or_default() += size;
    }
    let mut crates: Vec<_> = crates.into_iter().collect();
    crates.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    Ok(crates)
}

/// The crate with which a mangled name begins.
fn crate_of(mangled: &str) -> String {
    let name = rustc_demangle::demangle(mangled).to_string();
    if name.contains("micro_yolo::engine") {
        return "micro_yolo::engine".into();
    }
    // `<alloc::vec::Vec<T> as core::clone::Clone>::clone`, `tract_core::plan::run`, `__rust_alloc`.
    let start = name.find(|c: char| c.is_alphanumeric() || c == '_').unwrap_or(0);
    let path = &name[start..];
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
    match &path[..end] {
        "" => "unnamed".into(),
        name if path[end..].starts_with("::") => name.to_owned(),
        // A function without a path, or a trait on a primitive type.
        _ => "others".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_crates() {
        let cases = [
            ("_ZN10tract_core4plan10SimplePlan3run17h0123456789abcdefE", "tract_core"),
            (
                "_ZN66_$LT$tract_core..ops..math..Add$u20$as$u20$tract_core..ops..Op$GT$4eval17h0123456789abcdefE",
                "tract_core",
            ),
            ("_ZN10micro_yolo6engine4plan4Plan3run17h0123456789abcdefE", "micro_yolo::engine"),
            ("_ZN10micro_yolo3nms3run17h0123456789abcdefE", "micro_yolo"),
            ("memcpy", "others"),
            ("", "unnamed"),
        ];
        for (mangled, expected) in cases {
            assert_eq!(crate_of(mangled), expected, "{mangled}");
        }
    }

    #[test]
    fn functions_are_weighed() {
        // (module (import "a" "b" (func)) (func) (func nop)) with the names of its functions.
        let head = [0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 0x60, 0, 0, 2, 7, 1, 1, b'a', 1, b'b', 0, 0];
        let code = [3, 3, 2, 0, 0, 10, 8, 2, 2, 0, 0x0b, 3, 0, 1, 0x0b];
        let names: [(u8, &[u8]); 2] = [(1, b"_ZN4core1aE"), (2, b"_ZN5alloc1bE")];
        let map: Vec<u8> = [vec![2]]
            .into_iter()
            .chain(names.map(|(index, name)| [&[index, name.len() as u8], name].concat()))
            .flatten()
            .collect();
        let body = [&[4][..], b"name", &[1, map.len() as u8], &map].concat();
        let module = [&head[..], &code, &[0, body.len() as u8], &body].concat();
        let crates = code_by_crate(&module).unwrap();
        assert_eq!(crates, [("alloc".to_owned(), 3), ("core".to_owned(), 2)]);
        assert!(code_by_crate(&module[..20]).is_err());
    }
}
