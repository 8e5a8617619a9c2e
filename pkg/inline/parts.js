// The parts of `micro-yolo/inline`. xtask/inline.mjs makes the modules `inline:NAME`: gzipped files as base64 text, and
// the worker's script as text.
import simdEngine from "inline:micro_yolo_bg.wasm";
import relaxedEngine from "inline:micro_yolo_relaxed_bg.wasm";
import model from "inline:micro-yolo-int8.onnx";
import script from "inline:worker";
import { compiled } from "../assets.js";
import { Engine, instance } from "../engine-plain.js";
import { MicroYoloError } from "../error.js";
import { builtin, hasRelaxedSimd } from "../platform.js";
import { collected } from "../stream.js";

/**
 * @param {string} base64
 * @returns {Promise<Uint8Array>}
 */
async function unpacked(base64) {
  const packed = Uint8Array.fromBase64?.(base64) ?? Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  // Node's, even if the jsdom of a test runner hides its streams.
  const zlib = builtin("node:zlib");
  if (zlib) return zlib.gunzipSync(packed);
  if (typeof DecompressionStream !== "function") {
    throw new MicroYoloError(
      "unsupported",
      "this browser cannot unpack `micro-yolo/inline`: Firefox can since 113, Safari since 16.4; `micro-yolo` needs no unpacking",
    );
  }
  // Not fetch() of a data: URL, which a content security policy may forbid.
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return collected(stream);
}

/** @type {Promise<WebAssembly.Module> | undefined} Kept: compiling is the expensive part. */
let engine;
/** @type {string | undefined} Kept for every further worker. */
let address;

export const parts = {
  model: () => unpacked(model),
  worker() {
    address ??= URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
    return new Worker(address); // Not a module worker, which older supported browsers lack.
  },
  engines: {
    plain: {
      file() {
        engine ??= unpacked(hasRelaxedSimd() ? relaxedEngine : simdEngine).then(compiled);
        engine.catch(() => (engine = undefined));
        return engine;
      },
      local: async () => ({ Engine, instance }),
    },
  },
};
