//! The page as a folder: which part of the repository stands at which path.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// Path of the site and folder of the repository; the first that fits is taken. The page uses relative URLs only, so
/// that the folder works under any address.
const MOUNTS: &[(&str, &str)] = &[("pkg", "pkg"), ("models", "models"), ("samples", "data/samples"), ("", "www")];

/// What of the mounted folders is published: no checkpoints, notes or tarballs.
const TYPES: &[(&str, &str)] = &[
    ("css", "text/css; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/x-icon"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("map", "application/json"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("mp4", "video/mp4"),
    ("onnx", "application/octet-stream"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("ts", "text/plain; charset=utf-8"),
    ("txt", "text/plain; charset=utf-8"),
    ("wasm", "application/wasm"),
    ("webm", "video/webm"),
    ("webmanifest", "application/manifest+json"),
    ("webp", "image/webp"),
    ("woff2", "font/woff2"),
];

/// The MIME type of a file of the site, by its extension; `None` if it is not for publication.
pub fn mime(path: &Path) -> Option<&'static str> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    TYPES.iter().find(|(known, _)| *known == extension).map(|(_, mime)| *mime)
}

/// The file behind a URL path (as sent: with `%` escapes, perhaps a query), below `root`.
///
/// `None` for what is not there, not published, or not below its mount.
pub fn resolve(root: &Path, url: &str) -> Option<PathBuf> {
    let path = url.split(['?', '#']).next()?;
    let path = percent_decode(path.strip_prefix('/')?)?;
    let path = if path.is_empty() || path.ends_with('/') { format!("{path}index.html") } else { path };
    let relative = Path::new(&path);
    // No `..`, no second root, no hidden file or folder.
    let plain = relative.components().all(|part| match part {
        Component::Normal(name) => !name.to_string_lossy().starts_with('.'),
        _ => false,
    });
    if !plain || path.contains(['\0', '\\']) {
        return None;
    }
    let (mount, rest) = MOUNTS.iter().find_map(|(prefix, folder)| match *prefix {
        "" => Some((folder, relative)),
        prefix => relative.strip_prefix(prefix).ok().map(|rest| (folder, rest)),
    })?;
    let base = root.join(mount).canonicalize().ok()?;
    let file = base.join(rest).canonicalize().ok()?;
    // Symbolic links may not lead out either.
    (file.starts_with(&base) && file.is_file() && mime(&file).is_some()).then_some(file)
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

/// Copies the site into `to`, which is emptied first.
///
/// # Errors
///
/// If there is no page or a file cannot be copied.
pub fn copy_to(to: &Path) -> Result<()> {
    if !workspace::path("www/index.html").is_file() {
        bail!("www/index.html is missing");
    }
    if to.exists() {
        std::fs::remove_dir_all(to).with_context(|| format!("emptying {}", to.display()))?;
    }
    for (prefix, folder) in MOUNTS {
        copy_folder(&workspace::path(folder), &to.join(prefix))?;
    }
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if name.to_string_lossy().starts_with('.') || name == "node_modules" {
            continue;
        }
        if path.is_dir() {
            copy_folder(&path, &to.join(name))?;
        } else if mime(&path).is_some() {
            std::fs::create_dir_all(to).with_context(|| format!("creating {}", to.display()))?;
            std::fs::copy(&path, to.join(name)).with_context(|| format!("copying {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in [
            "www/index.html",
            "www/a b.js",
            "www/.hidden.js",
            "pkg/wasm/x_bg.wasm",
            "models/m.onnx",
            "models/m.safetensors",
            "secret.js",
        ] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file).unwrap();
        }
        dir
    }

    #[test]
    fn urls_lead_to_their_mounts() {
        let dir = site();
        let cases = [
            ("/", Some("www/index.html")),
            ("/?x=1", Some("www/index.html")),
            ("/index.html#top", Some("www/index.html")),
            ("/a%20b.js", Some("www/a b.js")),
            ("/pkg/wasm/x_bg.wasm", Some("pkg/wasm/x_bg.wasm")),
            ("/models/m.onnx", Some("models/m.onnx")),
            ("/models/m.safetensors", None),
            ("/missing.js", None),
            ("/pkg/", None),
        ];
        for (url, expected) in cases {
            let expected = expected.map(|file| dir.path().join(file).canonicalize().unwrap());
            assert_eq!(resolve(dir.path(), url), expected, "{url}");
        }
    }

    #[test]
    fn nothing_outside_is_reached() {
        let dir = site();
        std::os::unix::fs::symlink(dir.path().join("secret.js"), dir.path().join("www/link.js")).unwrap();
        for url in [
            "/../secret.js",
            "/..%2fsecret.js",
            "/%2e%2e/secret.js",
            "/pkg/../../secret.js",
            "/pkg/..%5c..%5csecret.js",
            "//secret.js",
            "/%2fetc/passwd",
            "/link.js",
            "/.hidden.js",
            "/a.js%00",
            "/%zz",
            "/%",
            "/%ff.js",
            "secret.js",
        ] {
            assert_eq!(resolve(dir.path(), url), None, "{url}");
        }
    }

    #[test]
    fn modules_have_the_types_that_browsers_insist_on() {
        assert_eq!(mime(Path::new("a.wasm")), Some("application/wasm"));
        assert_eq!(mime(Path::new("a.js")), Some("text/javascript; charset=utf-8"));
        assert_eq!(mime(Path::new("README")), None);
    }
}
