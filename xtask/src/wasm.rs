//! `cargo xtask build`: compiles the crate to WebAssembly modules with JavaScript glue code in pkg/wasm, and writes
//! pkg/inline.js.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use walrus::ir::Value;
use walrus::{ConstExpr, GlobalKind};
use wasm_bindgen_cli_support::Bindgen;
use xshell::{Cmd, Shell};

use crate::toolchain::{TARGET, Toolchain};
use crate::{node, process, site, wasm_toolchain, workspace};

/// One build of the module. A page loads the best one for its browser (`pkg/parts.js` chooses).
pub struct Variant {
    /// The file name of the module in pkg/wasm.
    pub file: &'static str,
    /// Features of the root crate. Only this crate contains kernels, so no variant compiles the dependencies again.
    features: &'static [&'static str],
    /// Features beyond `WASM_FEATURES` that wasm-opt may assume.
    wasm_features: &'static [&'static str],
}

const RELAXED: &[&str] = &["--enable-relaxed-simd"];
const THREADED: &[&str] = &["--enable-relaxed-simd", "--enable-threads"];

/// Arguments for rustc that make the memory shared between threads. They apply to our crate alone: the target's
/// standard library in stable Rust is compiled for one thread. A linker option allows the mix. Helpers therefore must
/// not use the standard library; see `src/engine/simd/thread_pool.rs`.
#[rustfmt::skip]
const SHARED_MEMORY: &[&str] = &[
    "-C", "target-feature=+atomics,+bulk-memory,+mutable-globals",
    "-C", "link-arg=--shared-memory", "-C", "link-arg=--no-check-features",
    "-C", "link-arg=--import-memory", "-C", "link-arg=--max-memory=1073741824",
    // wasm-bindgen needs these to give each thread a stack.
    "-C", "link-arg=--export=__heap_base", "-C", "link-arg=--export=__wasm_init_tls",
    "-C", "link-arg=--export=__tls_size", "-C", "link-arg=--export=__tls_align", "-C", "link-arg=--export=__tls_base",
];

/// All builds, in the order in which they are made: first the full ones (with tract), then the plain ones, one of them
/// with threads.
pub const VARIANTS: &[Variant] = &[
    Variant { file: "micro_yolo_full_bg.wasm", features: &["tract"], wasm_features: &[] },
    Variant {
        file: "micro_yolo_full_relaxed_bg.wasm",
        features: &["tract", "relaxed-simd"],
        wasm_features: RELAXED,
    },
    Variant { file: "micro_yolo_bg.wasm", features: &[], wasm_features: &[] },
    Variant { file: "micro_yolo_relaxed_bg.wasm", features: &["relaxed-simd"], wasm_features: RELAXED },
    Variant { file: "micro_yolo_threads_bg.wasm", features: &["relaxed-simd", "threads"], wasm_features: THREADED },
];

impl Variant {
    /// Name of its glue code, `NAME.js`.
    fn glue(&self) -> &'static str {
        match (self.is_threaded(), self.is_full()) {
            (true, _) => "micro_yolo_threads",
            (false, true) => "micro_yolo_full",
            (false, false) => GLUE,
        }
    }

    /// Whether helpers share its memory.
    pub fn is_threaded(&self) -> bool {
        self.features.contains(&"threads")
    }

    /// Whether it is a full build, which runs any network with tract. The others only run this project's networks.
    pub fn is_full(&self) -> bool {
        self.features.contains(&"tract")
    }

    /// Whether it needs a browser with relaxed SIMD.
    pub fn is_relaxed(&self) -> bool {
        self.features.contains(&"relaxed-simd")
    }
}

/// The name under which glue code is generated, `NAME.js`, and that of the plain builds. Builds of one kind have the
/// same imports and exports, so one glue file serves all of them.
const GLUE: &str = "micro_yolo";

/// The files of the glue code, without the name.
const GLUE_FILES: [&str; 3] = [".js", ".d.ts", "_bg.wasm.d.ts"];

/// Increase this when [`bind`] generates glue code in another way, so that old files are replaced.
const GLUE_FORM: u32 = 1;

/// Features that every browser with SIMD supports, and that rustc uses by default.
const WASM_FEATURES: &[&str] = &[
    "--enable-simd",
    "--enable-bulk-memory",
    "--enable-bulk-memory-opt",
    "--enable-multivalue",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-reference-types",
    "--enable-sign-ext",
];

/// The options of wasm-opt. LLVM has already optimised the whole program. Sizes after gzip were 1886 kB without
/// wasm-opt, 1848 with -O1 and 1969 with -Os. From -Os on, the raw file is smaller, but compresses worse, and takes
/// four times as long.
///
/// The added-constants pass moves constants that are added to an address into the load, where they cost V8 nothing.
/// That saves nearly 4 % of an int8 frame. It may assume that no address below 1024 is used, because the stack is at
/// the bottom of memory and would have overflowed there.
pub const OPTIMIZATIONS: &[&str] = &["-O1", "--low-memory-unused", "--optimize-added-constants-propagate"];

/// The model inside the package, a file in models/: the most accurate of the int8 models. `micro-yolo-s-int8` has four
/// fifths of its size and five sixths of its AP50 on `coco-val` (models/README.md).
pub const DEFAULT_MODEL: &str = "micro-yolo-int8.onnx";

/// The build profile in the root Cargo.toml.
pub const PROFILE: &str = "wasm";

/// Arguments of `cargo xtask build`.
#[derive(Args)]
pub struct BuildArgs {
    /// Also put page, package, models and samples together in target/site, for any static host
    #[arg(long)]
    site: bool,
}

/// `cargo xtask build`.
///
/// # Errors
///
/// If the toolchain is missing, the crate does not compile or a file cannot be written.
pub fn run(sh: &Shell, args: &BuildArgs) -> Result<ExitCode> {
    build(sh)?;
    if args.site {
        let dir = workspace::target_dir("site")?;
        let package = if has_esbuild(sh) {
            package(sh)?
        } else {
            eprintln!("xtask: no esbuild: the package's JavaScript is not minified (`npm ci` brings one)");
            workspace::path("pkg")
        };
        site::copy_to(&dir, &package)?;
        println!("{} can be put on any static host", dir.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds all variants that are not up to date, and prints their sizes.
///
/// # Errors
///
/// As [`run`].
pub fn build(sh: &Shell) -> Result<()> {
    let toolchain = wasm_toolchain::ensure(sh)?;
    let out_dir = workspace::path("pkg/wasm");
    std::fs::create_dir_all(&out_dir).with_context(|| format!("creating {}", out_dir.display()))?;
    let optimizer = node::wasm_opt(sh);
    if optimizer.is_none() {
        eprintln!("xtask: no wasm-opt: the module works but is larger (`npm ci` brings one)");
    }
    for variant in VARIANTS {
        let module = compile(sh, toolchain, variant)?;
        finish(sh, variant, &module, optimizer.as_deref(), &out_dir)?;
    }
    remove_stale(&out_dir)?;
    copy_model(&out_dir)?;
    inline(sh)
}

fn has_esbuild(sh: &Shell) -> bool {
    node::program(sh, "esbuild").and_then(|_| node::ensure(sh)).is_ok()
}

/// Makes the npm package as it is published, with minified JavaScript, from the build; returns its folder.
///
/// # Errors
///
/// If there is no node or esbuild, or a file cannot be written.
pub fn package(sh: &Shell) -> Result<PathBuf> {
    node::install(sh)?;
    let to = workspace::target_dir("npm-package")?;
    let _in = sh.push_dir(workspace::root());
    process::program(sh, "node").arg("xtask/package.mjs").arg(&to).quiet().run()?;
    Ok(to)
}

/// Makes pkg/inline.js, the package's single-file entry, from the build.
fn inline(sh: &Shell) -> Result<()> {
    if !has_esbuild(sh) {
        eprintln!("xtask: no esbuild: `micro-yolo/inline` is not made (`npm ci` brings one)");
        return Ok(());
    }
    let _in = sh.push_dir(workspace::root());
    process::program(sh, "node").arg("xtask/inline.mjs").quiet().run()?;
    print_size(&workspace::path("pkg/inline.js"))
}

/// Removes modules, glue code and models that earlier builds left under other names, because the package includes every
/// file of the folder.
fn remove_stale(out_dir: &Path) -> Result<()> {
    let mut made = HashSet::from([DEFAULT_MODEL.to_owned()]);
    for variant in VARIANTS {
        made.extend([variant.file.to_owned(), stamp(variant)]);
        made.extend(GLUE_FILES.map(|kind| format!("{}{kind}", variant.glue())));
    }
    for entry in std::fs::read_dir(out_dir).with_context(|| format!("reading {}", out_dir.display()))? {
        let entry = entry?;
        let is_made = entry.file_name().to_str().is_some_and(|name| made.contains(name));
        if !is_made && entry.file_type()?.is_file() {
            let path = entry.path();
            std::fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}

/// Copies the default model to the folder of the modules, where the package expects it.
fn copy_model(out_dir: &Path) -> Result<()> {
    let from = workspace::path("models").join(DEFAULT_MODEL);
    let to = out_dir.join(DEFAULT_MODEL);
    let bytes = std::fs::read(&from).with_context(|| format!("reading the default model {}", from.display()))?;
    if std::fs::read(&to).ok().as_ref() != Some(&bytes) {
        std::fs::write(&to, &bytes).with_context(|| format!("writing {}", to.display()))?;
    }
    print_size(&to)
}

/// Compiles and returns the path of the raw module.
///
/// Cargo keeps only one module, whatever its features, so it would compile the variants again each time. Each module is
/// therefore copied elsewhere, and cargo runs only if a source is newer.
fn compile(sh: &Shell, toolchain: Toolchain, variant: &Variant) -> Result<PathBuf> {
    let kept = raw_module(variant)?;
    let sources = kept.with_extension("d");
    if is_newer_than_sources(&kept, &sources) {
        return Ok(kept);
    }
    let module = cargo_build(sh, toolchain, variant)?;
    place(&module, &kept)?;
    place(&module.with_extension("d"), &sources)?;
    Ok(kept)
}

/// The path of a variant's module as cargo made it, including names.
///
/// # Errors
///
/// If its folder cannot be created.
pub fn raw_module(variant: &Variant) -> Result<PathBuf> {
    Ok(workspace::target_dir("wasm-modules")?.join(variant.file))
}

/// Whether `module` is newer than all its inputs: the files in cargo's list of dependencies, the versions and settings.
fn is_newer_than_sources(module: &Path, dependencies: &Path) -> bool {
    let modified = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    let (Some(made), Ok(listed)) = (modified(module), std::fs::read_to_string(dependencies)) else { return false };
    // `module: source source …`, with escaped spaces in names.
    let Some((_, sources)) = listed.lines().next().and_then(|line| line.split_once(": ")) else { return false };
    let sources = sources.replace("\\ ", "\0");
    let sources =
        sources.split(' ').filter(|name| !name.is_empty()).map(|name| PathBuf::from(name.replace('\0', " ")));
    let settings = ["Cargo.lock", "Cargo.toml", ".cargo/config.toml", "xtask/src/wasm.rs"].map(workspace::path);
    sources.chain(settings).all(|path| modified(&path).is_some_and(|time| time < made))
}

/// Compiles a variant with cargo and returns the path of its module.
fn cargo_build(sh: &Shell, toolchain: Toolchain, variant: &Variant) -> Result<PathBuf> {
    let mut cargo = toolchain.command(sh, "cargo")?;
    cargo = cargo.args(["rustc", "--package", "micro-yolo", "--lib", "--profile", PROFILE, "--target", TARGET]);
    cargo = cargo.args(["--no-default-features", "--features", &variant.features.join(",")]).args(MESSAGES);
    if variant.is_threaded() {
        cargo = cargo.arg("--").args(SHARED_MEMORY);
    }
    compiled_module(cargo)
}

/// Options of cargo: messages for programs go to standard output, those for people to standard error.
pub const MESSAGES: [&str; 2] = ["--message-format", "json-render-diagnostics"];

/// Runs a build with the options [`MESSAGES`], and returns the path of the WebAssembly module that it made.
///
/// # Errors
///
/// If the crate does not compile.
pub fn compiled_module(cargo: Cmd<'_>) -> Result<PathBuf> {
    let shown = cargo.to_string();
    let mut cargo = Command::from(cargo);
    let child = cargo.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let output =
        child.and_then(std::process::Child::wait_with_output).with_context(|| format!("cannot run `{shown}`"))?;
    if !output.status.success() {
        bail!("the crate does not build for the browser (`{shown}`)");
    }
    module_in(&output.stdout)
        .ok_or_else(|| anyhow!("cargo built no .wasm; is \"cdylib\" still among the crate types?"))
}

/// The last `.wasm` file in cargo's messages.
fn module_in(messages: &[u8]) -> Option<PathBuf> {
    let messages = String::from_utf8_lossy(messages);
    // Without the crate cargo_metadata: it enables features of serde with which cargo would compile all dependencies of
    // tract again.
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let artifacts = messages.filter(|message| message["reason"] == "compiler-artifact");
    let mut modules = artifacts.filter_map(|message| {
        let files = message["filenames"].as_array()?;
        files.iter().filter_map(|file| file.as_str()).find(|file| file.ends_with(".wasm")).map(PathBuf::from)
    });
    modules.next_back()
}

/// The name of the file beside a module that records what it was made from.
fn stamp(variant: &Variant) -> String {
    format!(".{}.stamp", variant.file)
}

/// Makes the glue code and optimises the module, unless this was already done for this module.
fn finish(sh: &Shell, variant: &Variant, module: &Path, optimizer: Option<&Path>, out_dir: &Path) -> Result<()> {
    let bytes = std::fs::read(module).with_context(|| format!("reading {}", module.display()))?;
    let wasm = out_dir.join(variant.file);
    let glue = out_dir.join(format!("{}.js", variant.glue()));
    let stamp = out_dir.join(stamp(variant));

    let mut hasher = DefaultHasher::new();
    (&bytes, OPTIMIZATIONS, WASM_FEATURES, variant.wasm_features, optimizer, env!("CARGO_PKG_VERSION"), GLUE_FORM)
        .hash(&mut hasher);
    let wanted = format!("{:016x}", hasher.finish());
    let fresh = std::fs::read_to_string(&stamp).is_ok_and(|stamp| stamp == wanted);
    if !(fresh && wasm.is_file() && glue.is_file()) {
        // Removed first, so that half-written files have no stamp.
        if stamp.exists() {
            std::fs::remove_file(&stamp).with_context(|| format!("removing {}", stamp.display()))?;
        }
        let generated = workspace::target_dir("wasm-bindgen")?.join(variant.file);
        bind(variant, bytes, &generated)?;
        let made = generated.join(format!("{GLUE}_bg.wasm"));
        if let Some(optimizer) = optimizer {
            optimize(sh, optimizer, variant, &made)?;
        }
        place(&made, &wasm)?;
        if variant.file == format!("{}_bg.wasm", variant.glue()) {
            for kind in GLUE_FILES {
                place(
                    &generated.join(format!("{GLUE}{kind}")),
                    &out_dir.join(format!("{}{kind}", variant.glue())),
                )?;
            }
        } else if std::fs::read(generated.join(format!("{GLUE}.js"))).ok() != std::fs::read(&glue).ok() {
            bail!("the glue of {} differs from {}: one must serve both", variant.file, glue.display());
        }
        std::fs::write(&stamp, wanted).with_context(|| format!("writing {}", stamp.display()))?;
    }
    print_size(&wasm)
}

/// Runs wasm-bindgen on a module.
fn bind(variant: &Variant, mut module: Vec<u8>, out_dir: &Path) -> Result<()> {
    if variant.is_threaded() {
        module = with_aligned_tls(&module)?;
    }
    let mut bindgen = Bindgen::new();
    bindgen.input_bytes(GLUE, module).typescript(true);
    // The package always specifies the module. A default path in the glue code would make bundlers add another file.
    bindgen.omit_default_module_path(true);
    // Function names and other metadata are a quarter of the file, and of no use to a visitor.
    bindgen.remove_name_section(true).remove_producers_section(true);
    // After a trap (such as out of memory) the package resets the module. A threaded module runs in a worker, which
    // ends then.
    bindgen.reset_state_function(!variant.is_threaded());
    let generated = bindgen.web(true).and_then(|bindgen| bindgen.generate(out_dir));
    generated.context("wasm-bindgen cannot make the glue")
}

/// Sets an alignment for the module's thread-local storage. The storage is empty, so the linker leaves the alignment 0.
/// wasm-bindgen would then request no bytes with an alignment of 0, which the allocator refuses.
fn with_aligned_tls(module: &[u8]) -> Result<Vec<u8>> {
    let mut module = walrus::Module::from_buffer(module)?;
    let export = module.exports.iter().find(|export| export.name == "__tls_align");
    let Some(walrus::ExportItem::Global(id)) = export.map(|export| export.item) else {
        bail!("the linker exported no __tls_align");
    };
    let align = &mut module.globals.get_mut(id).kind;
    if let GlobalKind::Local(ConstExpr::Value(Value::I32(align @ 0))) = align {
        *align = 1;
    }
    Ok(module.emit_wasm())
}

fn place(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
    Ok(())
}

fn print_size(path: &Path) -> Result<()> {
    let size = Size::of(path)?;
    println!("{:<34}{size}", path.strip_prefix(workspace::root()).unwrap_or(path).display());
    Ok(())
}

fn optimize(sh: &Shell, optimizer: &Path, variant: &Variant, wasm: &Path) -> Result<()> {
    let smaller = wasm.with_extension("opt.wasm");
    let cmd = sh.cmd(optimizer).args(OPTIMIZATIONS).args(WASM_FEATURES).args(variant.wasm_features).quiet();
    cmd.arg("-o").arg(&smaller).arg(wasm).run()?;
    std::fs::rename(&smaller, wasm).with_context(|| format!("replacing {}", wasm.display()))
}

/// The size of a file, raw and compressed.
pub struct Size {
    /// As it is.
    pub raw: u64,
    /// Compressed at the best level.
    pub gzip: u64,
}

impl Size {
    /// Measures a file.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn of(path: &Path) -> Result<Size> {
        let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        // Level 9, as a static host with prepared files sends; on the fly a server may take less trouble.
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&bytes)?;
        Ok(Size { raw: bytes.len() as u64, gzip: encoder.finish()?.len() as u64 })
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>10} bytes, {:>9} gzip", self.raw, self.gzip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_no_build_makes_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let kept =
            ["micro_yolo_bg.wasm", ".micro_yolo_full_bg.wasm.stamp", "micro_yolo_threads.d.ts", DEFAULT_MODEL];
        let stale = ["micro_yolo_other_bg.wasm", "micro_yolo_other.js", "other.onnx"];
        for name in kept.iter().chain(&stale) {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        remove_stale(dir.path()).unwrap();
        for name in kept {
            assert!(dir.path().join(name).is_file(), "{name}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), kept.len());
    }

    #[test]
    fn the_module_is_found_among_cargos_messages() {
        let artifact =
            |files: &[&str]| serde_json::json!({"reason": "compiler-artifact", "filenames": files}).to_string();
        let messages = [
            artifact(&["/t/libtract.rlib"]),
            artifact(&["/t/micro_yolo.wasm", "/t/libmicro_yolo.rlib"]),
            "not json".to_owned(),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        assert_eq!(module_in(messages.join("\n").as_bytes()), Some(PathBuf::from("/t/micro_yolo.wasm")));
        assert_eq!(module_in(messages[3].as_bytes()), None);
    }

    #[test]
    fn a_module_is_fresh_until_a_source_changes() {
        let dir = tempfile::tempdir().unwrap();
        let [module, list, source] = ["m.wasm", "m.d", "a b.rs"].map(|name| dir.path().join(name));
        assert!(!is_newer_than_sources(&module, &list), "nothing is there yet");
        std::fs::write(&source, "").unwrap();
        let escaped = source.display().to_string().replace(' ', "\\ ");
        std::fs::write(&list, format!("m.wasm: {escaped}\n")).unwrap();
        std::fs::write(&module, "").unwrap();
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
        let set = |path: &Path, time| std::fs::File::options().write(true).open(path).unwrap().set_modified(time);
        set(&module, later).unwrap();
        assert!(is_newer_than_sources(&module, &list));
        set(&source, later + std::time::Duration::from_secs(1)).unwrap();
        assert!(!is_newer_than_sources(&module, &list));
        std::fs::remove_file(&source).unwrap();
        assert!(!is_newer_than_sources(&module, &list), "a source that is gone");
    }

    #[test]
    fn sizes_are_of_the_file_and_of_its_gzip() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("zeros");
        std::fs::write(&path, vec![0u8; 100_000]).unwrap();
        let size = Size::of(&path).unwrap();
        assert_eq!(size.raw, 100_000);
        assert!(size.gzip > 18 && size.gzip < 1000, "{}", size.gzip);
    }
}
