//! The page as a folder: which part of the repository stands at which path, and what a published site has beyond it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::workspace;

/// Path of the site and folder of the repository; the first that fits is taken. The page uses relative URLs only, so
/// that the folder works under any address.
const MOUNTS: &[(&str, &str)] =
    &[("pkg", "pkg"), ("models", "models"), ("samples", "data/samples"), ("docs", "docs"), ("", "www")];

/// What of the mounted folders is published: no checkpoints or tarballs.
const TYPES: &[(&str, &str)] = &[
    ("css", "text/css; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/x-icon"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("map", "application/json"),
    // Documents are read as they are: browsers offer to save what they are told is Markdown.
    ("md", "text/plain; charset=utf-8"),
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
    publish(to)
}

/// The addresses of `www/links.json` that concern the build; empty until the project is published.
#[derive(Deserialize)]
struct Links {
    /// Where the site will stand.
    site: String,
}

/// What `publish` replaces, as it stands in the sources. That it does stand there is checked.
const PREVIEW: &str = r#"<meta property="og:image" content="./preview.jpg" />"#;
const NOT_OFFLINE: &str = "export const OFFLINE = false;";
const NO_FILES: &str = "const FILES = {};";

/// Makes a copy of the page a published site: its preview picture has an absolute address, if links.json says where the
/// site will be, and it keeps itself for use without a network.
///
/// # Errors
///
/// If a source does not have the line that is replaced, or a file cannot be read or written.
fn publish(site: &Path) -> Result<()> {
    let links = std::fs::read(site.join("links.json")).context("reading links.json")?;
    let links: Links = serde_json::from_slice(&links).context("links.json is not as expected")?;
    if !links.site.is_empty() {
        let address = links.site.trim_end_matches('/');
        if !address.starts_with("https://") || address.contains(['"', '<', '>', '&']) {
            bail!("`site` in links.json must be an https:// address, not {address:?}");
        }
        let absolute = format!(
            "<meta property=\"og:image\" content=\"{address}/preview.jpg\" />\n    \
             <meta property=\"og:url\" content=\"{address}/\" />\n    <link rel=\"canonical\" href=\"{address}/\" />"
        );
        replace(&site.join("index.html"), PREVIEW, &absolute)?;
    }
    replace(&site.join("build.js"), NOT_OFFLINE, "export const OFFLINE = true;")?;
    let mut files = BTreeMap::new();
    hash_folder(site, "", &mut files)?;
    files.remove("service-worker.js");
    let files = serde_json::to_string_pretty(&files).context("writing the list of files")?;
    replace(&site.join("service-worker.js"), NO_FILES, &format!("const FILES = {files};"))
}

fn replace(file: &Path, from: &str, to: &str) -> Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    if text.matches(from).count() != 1 {
        return Err(anyhow!("{} must have `{from}` once", file.display()));
    }
    std::fs::write(file, text.replace(from, to)).with_context(|| format!("writing {}", file.display()))
}

/// Adds each file below `folder`, by its path in the site, with the first 32 hexadecimal digits of its SHA-256.
fn hash_folder(folder: &Path, prefix: &str, files: &mut BTreeMap<String, String>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            hash_folder(&path, &format!("{prefix}{name}/"), files)?;
            continue;
        }
        let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let hash = Sha256::digest(&bytes).iter().take(16).fold(String::new(), |mut hash, byte| {
            let _ = write!(hash, "{byte:02x}"); // A string takes everything.
            hash
        });
        files.insert(format!("{prefix}{name}"), hash);
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

    /// A copied site with as much as `publish` needs.
    fn published(links: &str) -> (tempfile::TempDir, Result<()>) {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("links.json", links);
        write("index.html", &format!("<head>\n    {PREVIEW}\n</head>"));
        write("build.js", NOT_OFFLINE);
        write("service-worker.js", &format!("{NO_FILES}\n"));
        std::fs::create_dir(dir.path().join("deep")).unwrap();
        write("deep/a b.txt", "abc");
        let result = publish(dir.path());
        (dir, result)
    }

    #[test]
    fn a_published_site_lists_its_files_by_content() {
        let (dir, result) = published(r#"{ "site": "", "source": "x" }"#);
        result.unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        let worker = read("service-worker.js");
        // FIPS 180-2, appendix B.1: the digest of "abc".
        assert!(worker.contains(r#""deep/a b.txt": "ba7816bf8f01cfea414140de5dae2223""#), "{worker}");
        assert!(!worker.contains("service-worker.js"), "it cannot hold its own hash");
        assert!(worker.contains("\"build.js\""), "{worker}");
        assert_eq!(read("build.js"), "export const OFFLINE = true;");
        assert!(read("index.html").contains(PREVIEW), "without an address nothing is made absolute");
    }

    #[test]
    fn the_preview_gets_the_address_of_the_site() {
        let (dir, result) = published(r#"{ "site": "https://example.org/yolo/" }"#);
        result.unwrap();
        let html = std::fs::read_to_string(dir.path().join("index.html")).unwrap();
        assert!(html.contains(r#"property="og:image" content="https://example.org/yolo/preview.jpg""#), "{html}");
        assert!(html.contains(r#"rel="canonical" href="https://example.org/yolo/""#), "{html}");
        for links in [r#"{ "site": "http://example.org" }"#, r#"{ "site": "https://a\"b" }"#, "{}", "no JSON"] {
            assert!(published(links).1.is_err(), "{links}");
        }
    }

    #[test]
    fn the_page_has_the_lines_that_are_replaced() {
        for (file, line) in [("index.html", PREVIEW), ("build.js", NOT_OFFLINE), ("service-worker.js", NO_FILES)] {
            let text = std::fs::read_to_string(workspace::path("www").join(file)).unwrap();
            assert_eq!(text.matches(line).count(), 1, "{file}");
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
