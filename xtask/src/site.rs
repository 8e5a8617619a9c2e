//! The page as a folder: the URL path of each part of the repository, and what a published site adds.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use crate::workspace;

/// URL path and folder of the repository; the first match is used. The page uses only relative URLs, so that the folder
/// works under any URL.
const MOUNTS: &[(&str, &str)] =
    &[("pkg", "pkg"), ("models", "models"), ("samples", "data/samples"), ("docs", "docs"), ("", "www")];

/// Extensions of the files that are published: no checkpoints or tarballs.
const PUBLISHED: &[&str] = &[
    "css",
    "html",
    "ico",
    "jpg",
    "js",
    "json",
    "map",
    "md",
    "mjs",
    "mp4",
    "onnx",
    "png",
    "svg",
    "ts",
    "txt",
    "wasm",
    "webm",
    "webmanifest",
    "webp",
    "woff2",
];

/// The MIME type of a file of the site, by its extension; `None` if it is not for publication.
pub fn mime(path: &Path) -> Option<String> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    if !PUBLISHED.contains(&&*extension) {
        return None;
    }
    let mime = match &*extension {
        // Normally these extensions mean video, another kind of program, and Markdown. As plain text, browsers show the
        // documents instead of saving them.
        "ts" | "md" => mime_guess::mime::TEXT_PLAIN,
        "mjs" => mime_guess::mime::TEXT_JAVASCRIPT,
        "map" => mime_guess::mime::APPLICATION_JSON,
        _ => mime_guess::from_path(path).first_or_octet_stream(),
    };
    let charset = if mime.type_() == mime_guess::mime::TEXT { "; charset=utf-8" } else { "" };
    Some(format!("{}{charset}", mime.essence_str()))
}

/// The file for a URL path (as sent: with `%` escapes and possibly a query), below `root`.
///
/// `None` if the file does not exist, is not published, or is not below its mount.
pub fn resolve(root: &Path, url: &str) -> Option<PathBuf> {
    let path = url.split(['?', '#']).next()?;
    let path = percent_decode_str(path.strip_prefix('/')?).decode_utf8().ok()?;
    let path = if path.is_empty() || path.ends_with('/') { format!("{path}index.html") } else { path.into_owned() };
    let relative = Path::new(&path);
    // No `..`, no absolute path, no hidden file or folder.
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
    // Symbolic links must not lead outside either.
    (file.starts_with(&base) && file.is_file() && mime(&file).is_some()).then_some(file)
}

/// Copies the site into `to`, which is emptied first, together with the npm package in the folder `package`.
///
/// # Errors
///
/// If there is no page or a file cannot be copied.
pub fn copy_to(to: &Path, package: &Path) -> Result<()> {
    if !workspace::path("www/index.html").is_file() {
        bail!("www/index.html is missing");
    }
    if to.exists() {
        std::fs::remove_dir_all(to).with_context(|| format!("emptying {}", to.display()))?;
    }
    for (prefix, folder) in MOUNTS {
        let from = if *prefix == "pkg" { package.to_owned() } else { workspace::path(folder) };
        copy_folder(&from, &to.join(prefix))?;
    }
    publish(to)
}

/// The URLs in `www/links.json` that the build needs; empty until the project is published.
#[derive(Deserialize)]
struct Links {
    /// The URL of the site.
    site: String,
}

/// The text that `publish` replaces in the sources. It is an error if it is missing.
const PREVIEW: &str = r#"<meta property="og:image" content="./preview.jpg" />"#;
const NOT_OFFLINE: &str = "export const OFFLINE = false;";
const NO_FILES: &str = "const FILES = {};";

/// Makes a copy of the page a published site. Its preview picture gets an absolute URL, if links.json has the URL of
/// the site. It gets a service worker for use offline.
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

/// Adds each file below `folder` to `files`: its path in the site and the first 32 hexadecimal digits of its SHA-256.
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
            let _ = write!(hash, "{byte:02x}"); // Writing to a string cannot fail.
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
    let is_hidden = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with('.') || name == "node_modules";
    let entries = WalkDir::new(from).min_depth(1).follow_links(true);
    for entry in entries.into_iter().filter_entry(|entry| !is_hidden(entry.file_name())) {
        let entry = entry.with_context(|| format!("reading {}", from.display()))?;
        let path = entry.path();
        if entry.file_type().is_file() && mime(path).is_some() {
            let copy = to.join(path.strip_prefix(from)?);
            let folder = copy.parent().unwrap_or(to);
            std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
            std::fs::copy(path, &copy).with_context(|| format!("copying {}", path.display()))?;
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
    fn a_site_has_the_package_as_it_is_shipped() {
        let (package, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(package.path().join("index.js"), "export{}").unwrap();
        let site = to.path().join("site");
        copy_to(&site, package.path()).unwrap();
        let files: Vec<_> =
            std::fs::read_dir(site.join("pkg")).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(files, ["index.js"], "nothing of the sources");
        assert!(site.join("samples/cat.jpg").is_file());
        assert!(std::fs::read_to_string(site.join("service-worker.js")).unwrap().contains("\"pkg/index.js\""));
    }

    #[test]
    fn the_page_has_the_lines_that_are_replaced() {
        for (file, line) in [("index.html", PREVIEW), ("build.js", NOT_OFFLINE), ("service-worker.js", NO_FILES)] {
            let text = std::fs::read_to_string(workspace::path("www").join(file)).unwrap();
            assert_eq!(text.matches(line).count(), 1, "{file}");
        }
    }

    #[test]
    fn only_what_is_for_publication_is_copied() {
        let (from, to) = (site(), tempfile::tempdir().unwrap());
        for folder in ["www", "models", "missing"] {
            copy_folder(&from.path().join(folder), &to.path().join(folder)).unwrap();
        }
        let files = WalkDir::new(to.path()).sort_by_file_name().into_iter().map(Result::unwrap);
        let names: Vec<_> =
            files.filter(|file| file.file_type().is_file()).map(|file| file.file_name().to_owned()).collect();
        assert_eq!(names, ["m.onnx", "a b.js", "index.html"]);
    }

    #[test]
    fn nothing_outside_is_reached() {
        let dir = site();
        #[cfg(unix)]
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
        let cases = [
            ("a.wasm", Some("application/wasm")),
            ("a.js", Some("text/javascript; charset=utf-8")),
            ("a.MJS", Some("text/javascript; charset=utf-8")),
            ("a.d.ts", Some("text/plain; charset=utf-8")),
            ("a.js.map", Some("application/json")),
            ("a.html", Some("text/html; charset=utf-8")),
            ("a.webmanifest", Some("application/manifest+json")),
            ("a.onnx", Some("application/octet-stream")),
            ("a.png", Some("image/png")),
            ("a.safetensors", None),
            ("README", None),
        ];
        for (name, expected) in cases {
            assert_eq!(mime(Path::new(name)).as_deref(), expected, "{name}");
        }
    }
}
