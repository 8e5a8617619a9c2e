//! Names of classes, in the file formats of other programs.

use std::collections::BTreeMap;
use std::path::Path;

use saphyr_parser::{Event, Parser};

use crate::error::{Error, Result, read_text};

/// Reads the names of classes: the `names` of a YAML file (`.yaml`, `.yml`: a list, or a map from numbers), or one name
/// per line of any other file.
///
/// # Errors
///
/// [`Error::Io`]; [`Error::Data`] for a file without names or in another encoding than UTF-8, or YAML whose numbers have
/// gaps or whose `nc` is another number.
pub fn class_names(path: &Path) -> Result<Vec<String>> {
    let text = read_text(path)?;
    let bad = |problem: String| Error::Data { path: path.to_owned(), problem };
    let names = match path.extension().and_then(|extension| extension.to_str()) {
        Some("yaml" | "yml") => yaml_names(&text).map_err(bad)?,
        _ => text.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect(),
    };
    if names.is_empty() {
        return Err(bad("has no names of classes".into()));
    }
    Ok(names)
}

/// The `names` of a YAML map. They are read from the parser's events, in which every scalar is still text: `no` and `7`
/// are valid names.
fn yaml_names(text: &str) -> Result<Vec<String>, String> {
    let mut depth = 0;
    // In the outer map, keys and values alternate.
    let (mut key_next, mut wanted) = (true, false);
    // `nc` of the outer map, the number of classes.
    let (mut is_count, mut count) = (false, None);
    let (mut is_map, mut scalars) = (false, Vec::new());
    for event in Parser::new_from_str(text) {
        let (event, place) = event.map_err(|error| error.to_string())?;
        let line = place.start.line();
        match event {
            Event::MappingStart(..) | Event::SequenceStart(..) => {
                if depth == 1 && wanted {
                    is_map = matches!(event, Event::MappingStart(..));
                } else if wanted || (depth == 0 && !matches!(event, Event::MappingStart(..))) {
                    return Err(format!("line {line}: a list or map that does not belong there"));
                }
                depth += 1;
            }
            Event::MappingEnd | Event::SequenceEnd => {
                depth -= 1;
                if depth == 1 {
                    (key_next, wanted) = (!key_next, false);
                }
            }
            Event::Scalar(text, ..) => match depth {
                1 if key_next => (key_next, wanted, is_count) = (false, text == "names", text == "nc"),
                1 if !wanted => {
                    key_next = true;
                    if is_count {
                        count = text.parse::<usize>().ok();
                    }
                }
                2 if wanted => scalars.push(text.into_owned()),
                0 | 1 => return Err(format!("line {line}: names are a list, or a map from numbers")),
                _ => {}
            },
            Event::Alias(_) if wanted => {
                return Err(format!("line {line}: an alias among the names is not supported"));
            }
            Event::Alias(_) if depth == 1 => key_next = !key_next,
            Event::DocumentEnd => break,
            _ => {}
        }
    }
    let names = if is_map { scalars.len() / 2 } else { scalars.len() };
    if let Some(count) = count.filter(|count| *count != names && names > 0) {
        return Err(format!("has {names} names, and `nc` is {count}"));
    }
    if !is_map {
        return Ok(scalars);
    }
    let mut names = BTreeMap::new();
    for pair in scalars.chunks_exact(2) {
        let class: usize = pair[0].parse().map_err(|_| format!("`{}` is no class's number", pair[0]))?;
        names.insert(class, pair[1].clone());
    }
    if names.keys().copied().ne(0..scalars.len() / 2) {
        return Err("the numbers of the names are not 0, 1, 2 …".into());
    }
    Ok(names.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_another_encoding_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.names");
        // `größe` in Latin-1.
        std::fs::write(&path, b"cat\ngr\xf6\xdfe\n").unwrap();
        let error = class_names(&path).unwrap_err().to_string();
        assert!(error.contains("a.names") && error.contains("UTF-8"), "{error}");
    }

    #[test]
    fn names_are_read_from_lists_maps_and_lines() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            class_names(&path)
        };
        let all = ["cat", "no", "7"];
        assert_eq!(read("a.names", "cat\r\n no \n\n7\n").unwrap(), all);
        assert_eq!(
            read("a.yaml", "path: x\ntrain: images # a comment\nnc: 3\nnames: ['cat', no, 7]\n").unwrap(),
            all
        );
        assert_eq!(read("a.yml", "names:\n  0: cat\n  2: 7\n  1: no\n").unwrap(), all);
        assert_eq!(read("a.txt", "\u{feff}cat\nno\n7").unwrap(), all);
        assert_eq!(read("b.yaml", "names:\n- cat\n- no\n- \"7\"\n").unwrap(), all);
        for (name, text) in [
            ("a.txt", "\n\n"),
            ("a.yaml", "nc: 3\n"),
            ("a.yaml", "nc: 3\nnames: [a, b]\n"),
            ("a.yaml", "names: {0: a}\nnc: 2\n"),
            ("a.yaml", "names: cat\n"),
            ("a.yaml", "names: {0: a, 2: b}\n"),
            ("a.yaml", "names: [a, [b]]\n"),
            ("a.yaml", "names: [a\n"),
            ("a.yaml", "names: {0: a, 0: b}\n"),
            ("a.yaml", "names: {x: a}\n"),
            ("a.yaml", "- names\n"),
            ("a.yaml", "names\n"),
            ("a.yaml", "a: &x cat\nnames: [*x]\n"),
            ("a.yaml", "other: {names: [a]}\n"),
            ("a.yaml", ""),
        ] {
            assert!(matches!(read(name, text), Err(Error::Data { .. })), "{text}");
        }
    }
}
