//! `cargo xtask pack`: makes the npm tarball and the crate, and checks each as its users will use it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use flate2::read::GzDecoder;
use xshell::{Cmd, Shell, cmd};

use crate::{node, process, wasm, workspace};

/// Arguments of `cargo xtask pack`.
#[derive(Args)]
pub struct PackArgs {
    /// Folder for the tarball and the crate
    #[arg(long, default_value = "target/npm")]
    out: PathBuf,
}

/// `cargo xtask pack`.
///
/// # Errors
///
/// If node is missing, the build fails, or the tarball or the crate lacks something that a user needs.
pub fn run(sh: &Shell, args: &PackArgs) -> Result<ExitCode> {
    let out = workspace::root().join(&args.out);
    let tarball = npm_tarball(sh, &out)?;
    for linter in npm_linters(sh, &tarball)? {
        linter.run()?;
    }
    process::program(sh, "npm").args(["publish", "--dry-run"]).arg(&tarball).quiet().ignore_stdout().run()?;
    let packed = crate_tarball(sh)?;
    cmd!(sh, "cargo publish --dry-run {CRATES...} --no-verify --allow-dirty --quiet").run()?;
    sh.copy_file(&packed, &out)?;
    crate_tests(sh, &packed)?.run()?;
    print_parts(&tarball)?;
    print_parts(&out.join(packed.file_name().unwrap_or_default()))?;
    let missing = unfilled(&workspace::path("pkg/package.json"))?;
    if !missing.is_empty() {
        println!("before it is published, fill in pkg/package.json: {}", missing.join(", "));
    }
    Ok(ExitCode::SUCCESS)
}

/// Packs the npm package into a folder and returns its file.
///
/// # Errors
///
/// If node is missing, the build fails, or the tarball lacks something that a user of the package needs.
pub fn npm_tarball(sh: &Shell, out: &Path) -> Result<PathBuf> {
    node::install(sh)?;
    check_manifest(&workspace::path("pkg/package.json"))?;
    wasm::build(sh)?;
    let package = wasm::package(sh)?;
    sh.create_dir(out)?;
    let answer = {
        let _in = sh.push_dir(package);
        process::program(sh, "npm").args(["pack", "--json", "--pack-destination"]).arg(out).quiet().read()?
    };
    let answer: serde_json::Value = serde_json::from_str(&answer).context("npm pack did not answer in JSON")?;
    // npm 7 to 11 print a list. A later version may print an object with the packages by name.
    let package =
        answer.get(0).or_else(|| answer.as_object()?.values().next()).context("npm pack packed nothing")?;
    let files = package["files"].as_array().context("npm pack does not list its files")?;
    let names: Vec<_> = files.iter().filter_map(|file| file["path"].as_str()).collect();
    for end in ["inline.js", "index.cjs", ".wasm", ".onnx", ".d.ts", "README.md"] {
        if !names.iter().any(|name| name.ends_with(end)) {
            bail!("the tarball holds no {end}");
        }
    }
    Ok(out.join(package["filename"].as_str().context("npm pack does not name its file")?))
}

/// Linters that read a tarball as users' tools do: publint and "are the types wrong".
///
/// # Errors
///
/// If they are not installed.
pub fn npm_linters<'a>(sh: &'a Shell, tarball: &Path) -> Result<[Cmd<'a>; 2]> {
    // Only with `exports`: tools that do not know it (`node10`) find only the main entry.
    let options = ["--profile", "node16", "--no-definitely-typed", "--format", "ascii", "--no-emoji"];
    let attw = node::program(sh, "attw")?.arg(tarball).args(options);
    Ok([
        node::program(sh, "publint")?.args(["run", "--strict"]).arg(tarball),
        attw.arg("--exclude-entrypoints").args(UNTYPED),
    ])
}

/// Scripts of workers, which users do not import.
const UNTYPED: [&str; 2] = ["worker.js", "helper.js"];

/// The published crates: the library and the command.
const CRATES: [&str; 4] = ["--package", "micro-yolo", "--package", "micro-yolo-cli"];

/// The empty fields of a package.json that say where the package is published from.
fn unfilled(manifest: &Path) -> Result<Vec<&'static str>> {
    let text = std::fs::read_to_string(manifest).with_context(|| format!("reading {}", manifest.display()))?;
    let manifest: serde_json::Value = serde_json::from_str(&text).context("package.json is not JSON")?;
    Ok(["repository", "homepage", "bugs"].into_iter().filter(|field| manifest[field].is_null()).collect())
}

/// Packs the crate and returns its file.
///
/// # Errors
///
/// If cargo refuses to pack it.
pub fn crate_tarball(sh: &Shell) -> Result<PathBuf> {
    // Verifying would compile all dependencies again, and would not run any test.
    cmd!(sh, "cargo package {CRATES...} --no-verify --allow-dirty --quiet").run()?;
    let version = env!("CARGO_PKG_VERSION");
    Ok(workspace::target_dir("package")?.join(format!("micro-yolo-{version}.crate")))
}

/// The tests of the packed crate, unpacked outside the repository.
///
/// # Errors
///
/// If it cannot be unpacked.
pub fn crate_tests<'a>(sh: &'a Shell, packed: &Path) -> Result<Cmd<'a>> {
    // Always the same folder. Otherwise cargo would keep compiled files for each.
    let dir = workspace::target_dir("xtask/crate")?;
    sh.remove_path(&dir)?;
    let file = std::fs::File::open(packed).with_context(|| format!("reading {}", packed.display()))?;
    tar::Archive::new(GzDecoder::new(file))
        .unpack(&dir)
        .with_context(|| format!("unpacking {}", packed.display()))?;
    let folder = dir.join(packed.file_stem().unwrap_or_default());
    let manifest = folder.join("Cargo.toml");
    // Makes the crate its own workspace, although it is below ours.
    let text = sh.read_file(&manifest)?;
    sh.write_file(&manifest, format!("{text}\n[workspace]\n"))?;
    // The same versions of dependencies that all other tests use.
    sh.copy_file(workspace::path("Cargo.lock"), &folder)?;
    let target = workspace::target_dir("")?;
    let cargo = cmd!(sh, "cargo test --no-fail-fast --manifest-path {manifest} --target-dir {target}");
    // A few cases are enough here: the repository's own tests run more.
    Ok(cargo.env("MICRO_YOLO_FUZZ_RUNS", "20"))
}

/// Prints the compressed bytes of a tarball and the share of each part.
fn print_parts(tarball: &Path) -> Result<()> {
    let file = std::fs::File::open(tarball).with_context(|| format!("reading {}", tarball.display()))?;
    let size = file.metadata()?.len();
    let mut parts: BTreeMap<String, u64> = BTreeMap::new();
    for entry in tar::Archive::new(GzDecoder::new(file)).entries()? {
        let entry = entry.with_context(|| format!("reading {}", tarball.display()))?;
        *parts.entry(part_of(&entry.path()?)).or_default() += entry.size();
    }
    println!("\n{}: {size} bytes packed, {} unpacked", tarball.display(), parts.values().sum::<u64>());
    let mut parts: Vec<_> = parts.into_iter().collect();
    parts.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    for (part, size) in parts {
        println!("{size:>10}  {part}");
    }
    Ok(())
}

/// The part of a tarball that a file belongs to: modules and models by name, sources by folder, other files by kind.
fn part_of(path: &Path) -> String {
    // All files are in one folder, `package` or `NAME-VERSION`.
    let path: PathBuf = path.components().skip(1).collect();
    let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
    let first = path.components().next().map(|part| part.as_os_str().to_string_lossy().into_owned());
    match (&*extension, path.components().count()) {
        ("wasm" | "onnx", 2) if path.starts_with("wasm") => path.to_string_lossy().into_owned(),
        ("js", _) => "JavaScript".to_owned(),
        ("ts", _) => "types".to_owned(),
        (_, 1) => "documents, licences, manifest".to_owned(),
        _ => first.unwrap_or_default(),
    }
}

/// Checks that the manifest is ours: `wasm-pack build` without `--out-dir` overwrites it.
///
/// # Errors
///
/// If the manifest is missing or has no `exports`.
fn check_manifest(path: &Path) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let manifest: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("in {}", path.display()))?;
    if manifest.get("exports").is_none() {
        bail!(
            "{} was overwritten, most likely by `wasm-pack build`, whose default folder it is: \
             bring it back with `git checkout pkg`, and give wasm-pack `--out-dir target/wasm-pack`",
            path.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_of_wasm_pack_is_recognised() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("package.json");
        std::fs::write(&path, r#"{"name":"micro-yolo","main":"micro_yolo.js"}"#).unwrap();
        assert!(check_manifest(&path).unwrap_err().to_string().contains("--out-dir"));
        std::fs::write(&path, r#"{"name":"micro-yolo","exports":{}}"#).unwrap();
        assert!(check_manifest(&path).is_ok());
        std::fs::write(&path, "{").unwrap();
        assert!(check_manifest(&path).is_err());
    }

    #[test]
    fn files_belong_to_parts() {
        let cases = [
            ("package/wasm/micro_yolo_bg.wasm", "wasm/micro_yolo_bg.wasm"),
            ("package/wasm/micro-yolo-int8.onnx", "wasm/micro-yolo-int8.onnx"),
            ("package/wasm/micro_yolo.js", "JavaScript"),
            ("package/index.js", "JavaScript"),
            ("package/index.d.ts", "types"),
            ("package/package.json", "documents, licences, manifest"),
            ("micro-yolo-0.1.0/src/engine/plan/mod.rs", "src"),
            ("micro-yolo-0.1.0/tests/fixtures/forms/anchors.onnx", "tests"),
        ];
        for (path, expected) in cases {
            assert_eq!(part_of(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn the_crate_has_the_compressors_int8_fixture() {
        // A packed crate takes in nothing of another one's folder.
        for name in ["every-form-int8.onnx", "distribution-int8.onnx"] {
            let [ours, theirs] = ["tests/fixtures", "compress/tests/quantize"]
                .map(|folder| std::fs::read(workspace::path(folder).join(name)).unwrap());
            assert!(ours == theirs, "copy compress/tests/quantize/{name} to tests/fixtures");
        }
    }
}
