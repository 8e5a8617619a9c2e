// The capabilities of this browser or other runtime.
import { MicroYoloError } from "./error.js";

/** The smallest module: nothing in it can be refused. */
const EMPTY = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]);

/**
 * The smallest module that only an engine with SIMD accepts:
 * `(module (func (result v128) (i8x16.splat (i32.const 0))))`
 */
// prettier-ignore
const SIMD_PROBE = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 8, 1, 6, 0, 65, 0, 253, 15, 11,
]);

/**
 * The same for relaxed SIMD:
 * `(module (func (result v128) (i32x4.relaxed_trunc_f32x4_s (f32x4.splat (f32.const 0)))))`
 */
// prettier-ignore
const RELAXED_PROBE = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0,
  10, 14, 1, 12, 0, 67, 0, 0, 0, 0, 253, 19, 253, 129, 2, 11,
]);

/**
 * The same for reference types, which Chromium got five versions after SIMD: `(module (type (func (param externref))))`
 */
const REFERENCE_PROBE = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 1, 111, 0]);

/** Whether the relaxed SIMD engine runs here. */
export const hasRelaxedSimd = () => WebAssembly.validate(RELAXED_PROBE);

/**
 * Whether threads can share memory: only in a cross-origin isolated page. Every browser with relaxed SIMD then has
 * threads.
 */
export const canShareMemory = () => Boolean(globalThis.crossOriginIsolated) && hasRelaxedSimd();

/** Throws if this package cannot run at all. */
export function checkPlatform() {
  if (typeof WebAssembly !== "object" || typeof WebAssembly.compile !== "function") {
    throw new MicroYoloError("unsupported", "this browser has no WebAssembly, or it is switched off");
  }
  if (!WebAssembly.validate(SIMD_PROBE)) {
    throw new MicroYoloError("no-simd", "this browser's WebAssembly has no SIMD; every browser since 2023 has it");
  }
  if (!WebAssembly.validate(REFERENCE_PROBE)) {
    throw new MicroYoloError(
      "unsupported",
      "this browser's WebAssembly has no reference types: Chrome and Edge have them since version 96",
    );
  }
}

/**
 * Why the platform refused an engine whose file is correct; undefined if the file may be wrong.
 * @param {unknown} cause what compiling or starting it threw
 * @param {string} [engine] what to call it
 */
export function platformError(cause, engine = "the engine") {
  if (!(cause instanceof WebAssembly.CompileError)) return undefined;
  try {
    new WebAssembly.Module(EMPTY);
  } catch {
    // What is no page has no policy either.
    if (!globalThis.location) {
      return new MicroYoloError(
        "unsupported",
        "this runtime compiles no WebAssembly while it runs (Cloudflare Workers and the like): import the engine, " +
          "`micro-yolo/wasm/micro_yolo_relaxed_bg.wasm`, and give the module as `wasm`",
        { cause },
      );
    }
    return new MicroYoloError(
      "unsupported",
      "a content security policy forbids WebAssembly here: allow `script-src 'wasm-unsafe-eval'` " +
        "(an extension: in `content_security_policy.extension_pages` of its manifest; for a content script the visited " +
        "site's policy counts: let the background compute)",
      { cause },
    );
  }
  // V8, SpiderMonkey and JavaScriptCore report an unknown instruction as an unknown opcode.
  if (!/opcode|simd|experimental/i.test(cause.message) || hasRelaxedSimd()) return undefined;
  return new MicroYoloError(
    "unsupported",
    `this browser, or version of Node, has no relaxed SIMD, which ${engine} needs: ` +
      "take micro_yolo_bg.wasm, or micro_yolo_full_bg.wasm for models from elsewhere",
    { cause },
  );
}

/**
 * A built-in module of Node or a similar runtime; undefined in a browser. Not with `import`, because a bundler would
 * look for it.
 * @param {string} name
 * @returns {any}
 */
export function builtin(name) {
  return /** @type {any} */ (globalThis).process?.getBuiltinModule?.(name);
}
