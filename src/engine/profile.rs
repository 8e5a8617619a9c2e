//! Measures the time of each step of a frame. Needs the feature `profile`, which no published module has.

use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use super::simd::Isa;
use super::simd::peak_throughput;

/// The measurements of one step.
struct Row {
    /// Kind and shape.
    name: String,
    /// Multiply-accumulates of one run.
    macs: usize,
    /// The shortest run, because other load on the machine can only make a run longer.
    best_ms: f64,
}

/// In the order in which steps first ended.
static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

/// Milliseconds since an arbitrary time.
#[cfg(target_family = "wasm")]
pub(crate) fn now() -> f64 {
    use wasm_bindgen::prelude::*;
    #[wasm_bindgen]
    extern "C" {
        #[wasm_bindgen(js_namespace = performance)]
        fn now() -> f64;
    }
    now()
}

/// Milliseconds since an arbitrary time.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn now() -> f64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed().as_secs_f64() * 1e3
}

/// Runs `f` and records its time in the row with this name.
pub(crate) fn timed<R>(name: String, macs: usize, f: impl FnOnce() -> R) -> R {
    let start = now();
    let result = f();
    let ms = now() - start;
    let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    let number = rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
        rows.push(Row { name, macs, best_ms: f64::INFINITY });
        rows.len() - 1
    });
    rows[number].best_ms = rows[number].best_ms.min(ms);
    result
}

/// Returns the measurements as JSON, `[[name, macs, best_ms], ...]`, and clears them.
#[cfg_attr(not(target_family = "wasm"), expect(dead_code, reason = "only the bench in the browser asks"))]
pub(crate) fn take() -> String {
    let rows = std::mem::take(&mut *ROWS.lock().unwrap_or_else(PoisonError::into_inner));
    let mut json = String::from("[");
    for Row { name, macs, best_ms } in rows {
        let comma = if json.len() > 1 { "," } else { "" };
        // Names have only characters that need no escape. Writing to a string does not fail.
        let _ = write!(json, "{comma}[\"{name}\",{macs},{best_ms}]");
    }
    json.push(']');
    json
}

/// The peak of this machine in multiply-accumulates per second: float, int8.
#[cfg_attr(not(target_family = "wasm"), expect(dead_code, reason = "only the bench in the browser asks"))]
pub(crate) fn peaks() -> [f64; 2] {
    const TURNS: usize = 200_000;
    let best = |run: &dyn Fn() -> usize| {
        let rate = |_| {
            let start = now();
            let macs = run() as f64;
            macs / ((now() - start).max(1e-3) * 1e-3)
        };
        (0..40).map(rate).fold(0.0, f64::max)
    };
    let isa = Isa::best();
    [best(&|| peak_throughput::float(isa, TURNS)), best(&|| peak_throughput::int8(isa, TURNS))]
}
