//! Tests that the modules of xtask and of compress have no import cycles.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use walkdir::WalkDir;

/// For each module of the crate's root, the other root modules that it uses. Submodules count as part of their root
/// module. Lines after `end` in a file do not count.
fn uses(src: &Path, end: Option<&str>) -> BTreeMap<String, BTreeSet<String>> {
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let files = WalkDir::new(src).into_iter().map(|entry| entry.unwrap().into_path());
    for file in files.filter(|file| file.extension().is_some_and(|extension| extension == "rs")) {
        let first = file.strip_prefix(src).unwrap().components().next().unwrap();
        let module = Path::new(first.as_os_str()).file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        let text = end.and_then(|end| text.split(end).next()).unwrap_or(&text);
        let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let named = code.split("crate::").skip(1).flat_map(first_segments);
        uses.entry(module.clone()).or_default().extend(named.filter(|other| *other != module));
    }
    uses
}

/// `a` and `b` of `a::x`, or of `{a, b::{x, y}}`.
fn first_segments(path: &str) -> Vec<String> {
    let identifier = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(list) = path.strip_prefix('{') else { return vec![identifier(path)] };
    let mut depth = 0;
    let is_border = |c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        depth < 0 || depth == 0 && c == ','
    };
    let mut segments = Vec::new();
    for part in list.split_inclusive(is_border) {
        segments.push(identifier(part));
        if part.ends_with('}') && part.matches('}').count() > part.matches('{').count() {
            break;
        }
    }
    segments.retain(|segment| !segment.is_empty());
    segments
}

/// A cycle of imports, if there is one.
fn circle(uses: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn follow(
        uses: &BTreeMap<String, BTreeSet<String>>,
        way: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Option<Vec<String>> {
        let here = way.last()?.clone();
        for next in uses.get(&here).into_iter().flatten() {
            if let Some(start) = way.iter().position(|module| module == next) {
                return Some(way[start..].to_vec());
            }
            if !done.contains(next) {
                way.push(next.clone());
                if let Some(circle) = follow(uses, way, done) {
                    return Some(circle);
                }
                way.pop();
            }
        }
        done.insert(here);
        None
    }
    let mut done = BTreeSet::new();
    uses.keys().find_map(|module| follow(uses, &mut vec![module.clone()], &mut done))
}

#[test]
fn xtask_has_no_import_circle() {
    let mut uses = uses(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), None);
    assert!(uses["bench"].contains("wasm") && uses["test"].contains("browser"), "{uses:?}");
    assert_eq!(circle(&uses), None);
    uses.get_mut("workspace").unwrap().insert("test".into());
    assert!(circle(&uses).unwrap().contains(&"workspace".to_owned()));
}

#[test]
fn compress_has_no_import_circle() {
    // Tests use the built-in networks as examples, even tests of modules on which the networks depend.
    let mut uses = uses(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../compress/src"), Some("mod tests {"));
    assert!(uses["checkpoint"].contains("network") && uses["trainer"].contains("train"), "{uses:?}");
    assert_eq!(circle(&uses), None);
    uses.get_mut("network").unwrap().insert("checkpoint".into());
    assert!(circle(&uses).is_some());
}

#[test]
fn first_segments_of_use_lines() {
    let cases = [
        ("a::b;", vec!["a"]),
        ("{a, b::{x, y}, c::z}; fn f(x: u8, y: u8) {}", vec!["a", "b", "c"]),
        ("{a::{x}}; use super::{b, c};", vec!["a"]),
        ("a_1::f(2)", vec!["a_1"]),
    ];
    for (path, expected) in cases {
        assert_eq!(first_segments(path), expected, "{path}");
    }
}
