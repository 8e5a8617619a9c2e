// The two files that a detector needs, engine (WebAssembly) and model (ONNX): from the network, from bytes, with
// progress. Two loads of one address at the same time share one download; a failed download is forgotten, so that
// the next load tries again.
import { MicroYoloError, abortable, aborted } from "./error.js";
import { kindOf } from "./kind.js";

/** @typedef {import("./index.js").Progress} Progress */
/** @typedef {(progress: Progress) => void} OnProgress */

/**
 * Where a download stands and who waits for it.
 * @template T
 */
class Download {
  /** Bytes so far, decompressed. */
  loaded = 0;
  /** @type {number | undefined} All bytes, where the server says it. */
  total;
  #waiting = new Set();
  #controller = new AbortController();
  #finished = false;

  /** @param {(download: Download<T>, signal: AbortSignal) => Promise<T>} start */
  constructor(start) {
    this.promise = start(this, this.#controller.signal);
    this.promise.then(
      () => (this.#finished = true),
      () => (this.#finished = true),
    );
  }

  /**
   * @param {number} loaded
   * @param {number} [total]
   */
  report(loaded, total) {
    this.loaded = loaded;
    this.total = total;
    for (const waiter of this.#waiting) waiter.onProgress();
  }

  /**
   * Waits for the download. When the last one who waits has given up, the download stops.
   * @param {AbortSignal | undefined} signal
   * @param {() => void} onProgress
   * @returns {Promise<T>}
   */
  async join(signal, onProgress) {
    const waiter = { onProgress };
    this.#waiting.add(waiter);
    try {
      return await abortable(this.promise, signal);
    } finally {
      this.#waiting.delete(waiter);
      if (this.#waiting.size === 0 && !this.#finished) this.#controller.abort();
    }
  }

  /** Whether it was given up; who comes now starts afresh. */
  get abandoned() {
    return this.#controller.signal.aborted;
  }
}

/** @type {Map<string, Download<WebAssembly.Module>>} Kept when loaded: compiling is the dear part. */
const engines = new Map();
/** @type {Map<string, Download<Uint8Array>>} Kept while pending only: the bytes belong to the detectors. */
const models = new Map();

/**
 * @template T
 * @param {Map<string, Download<T>>} downloads
 * @param {string} url
 * @param {boolean} keep
 * @param {(response: Response) => Promise<T>} read
 * @returns {Download<T>}
 */
function download(downloads, url, keep, read) {
  const running = downloads.get(url);
  if (running && !running.abandoned) return running;
  /** @type {Download<T>} */
  const started = new Download(async (self, signal) => read(await fetchCounted(url, self, signal)));
  const forget = () => {
    if (downloads.get(url) === started) downloads.delete(url);
  };
  started.promise.then(keep ? undefined : forget, forget);
  downloads.set(url, started);
  return started;
}

/**
 * Fetches `url` and counts its bytes as they pass.
 * @param {string} url
 * @param {Download<any>} progress
 * @param {AbortSignal} signal
 * @returns {Promise<Response>}
 */
async function fetchCounted(url, progress, signal) {
  let response;
  try {
    response = await fetch(url, { signal });
  } catch (cause) {
    throw networkError(url, "could not be reached", cause);
  }
  if (!response.ok || !response.body) throw networkError(url, `answered ${response.status}`);
  // Of a compressed answer, content-length counts the compressed bytes and the stream the others: no total then.
  const length = response.headers.get("content-encoding") ? undefined : Number(response.headers.get("content-length"));
  let loaded = 0;
  const counted = response.body.pipeThrough(
    new TransformStream({
      transform(chunk, controller) {
        loaded += chunk.byteLength;
        progress.report(loaded, length && loaded <= length ? length : undefined);
        controller.enqueue(chunk);
      },
      flush() {
        progress.report(loaded, loaded);
      },
    }),
  );
  // A type of our own, so that a server without the right MIME type does not keep the engine from compiling.
  return new Response(counted, { headers: { "content-type": "application/wasm" } });
}

/**
 * @param {string} url
 * @param {string} what
 * @param {unknown} [cause]
 */
function networkError(url, what, cause) {
  return new MicroYoloError("network", `${url} ${what}`, { cause });
}

/**
 * @param {string} url
 * @param {unknown} cause
 */
function brokenStream(url, cause) {
  return networkError(url, "stopped before its end", cause);
}

/**
 * @param {unknown} cause
 * @returns {never}
 */
function badEngine(cause) {
  throw new MicroYoloError("invalid-engine", "the engine file is not the WebAssembly module of this package", { cause });
}

/**
 * The smallest module that only an engine with SIMD accepts:
 * `(module (func (result v128) (i8x16.splat (i32.const 0))))`
 */
// prettier-ignore
const SIMD_PROBE = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 8, 1, 6, 0, 65, 0, 253, 15, 11,
]);

/**
 * Likewise for relaxed SIMD:
 * `(module (func (result v128) (i32x4.relaxed_trunc_f32x4_s (f32x4.splat (f32.const 0)))))`
 */
// prettier-ignore
const RELAXED_PROBE = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0,
  10, 14, 1, 12, 0, 67, 0, 0, 0, 0, 253, 19, 253, 129, 2, 11,
]);

/** Whether the faster engine runs here. */
export const hasRelaxedSimd = () => WebAssembly.validate(RELAXED_PROBE);

// Of each kind the address of the fastest engine that this browser runs; in int8, all give the same results. Each address
// is written out, for bundlers look for exactly this.

/**
 * Whether threads can share memory here: only in a page that is cross-origin isolated. Every browser with relaxed SIMD has
 * threads then.
 */
const canShareMemory = () => Boolean(globalThis.crossOriginIsolated) && hasRelaxedSimd();

/**
 * The engine that runs this project's networks and no other.
 * @param {boolean} threaded with helpers, if that can be had
 */
export function smallEngine(threaded) {
  if (threaded && canShareMemory()) return new URL("./wasm/micro_yolo_threads_bg.wasm", import.meta.url);
  return hasRelaxedSimd()
    ? new URL("./wasm/micro_yolo_small_relaxed_bg.wasm", import.meta.url)
    : new URL("./wasm/micro_yolo_small_bg.wasm", import.meta.url);
}

/** The one with tract, which runs any. */
export function fullEngine() {
  return hasRelaxedSimd()
    ? new URL("./wasm/micro_yolo_relaxed_bg.wasm", import.meta.url)
    : new URL("./wasm/micro_yolo_bg.wasm", import.meta.url);
}

/** Throws where this package cannot run at all. */
export function checkPlatform() {
  if (typeof WebAssembly !== "object" || typeof WebAssembly.compile !== "function") {
    throw new MicroYoloError("unsupported", "this browser has no WebAssembly, or it is switched off");
  }
  if (!WebAssembly.validate(SIMD_PROBE)) {
    throw new MicroYoloError("no-simd", "this browser's WebAssembly has no SIMD; every browser since 2023 has it");
  }
}

/**
 * Loads engine and model side by side.
 *
 * @param {object} wanted
 * @param {string | URL | BufferSource | WebAssembly.Module} wanted.wasm
 * @param {string | URL | BufferSource | Blob | Uint8Array} wanted.model
 * @param {AbortSignal} [wanted.signal]
 * @param {OnProgress} [wanted.onProgress]
 * @returns {Promise<{ module: WebAssembly.Module, model: Uint8Array }>}
 */
export async function loadAssets({ wasm, model, signal, onProgress }) {
  if (signal?.aborted) throw aborted(signal);
  // Aborted by the caller's signal, and by the failure of either part: the other is not needed then.
  const controller = new AbortController();
  const forward = () => controller.abort(signal?.reason);
  signal?.addEventListener("abort", forward, { once: true });
  /** @type {Download<any>[]} */
  const downloads = [];
  let last = -1;
  const report = () => {
    if (!onProgress) return;
    const loaded = downloads.reduce((sum, one) => sum + one.loaded, 0);
    if (loaded === last) return;
    last = loaded;
    const total = downloads.reduce(
      (/** @type {number | undefined} */ sum, one) =>
        sum === undefined || one.total === undefined ? undefined : sum + one.total,
      0,
    );
    onProgress({ loaded, total });
  };
  /**
   * @template T
   * @param {Download<T>} one
   */
  const wait = (one) => {
    downloads.push(one);
    return one.join(controller.signal, report);
  };
  // Both are asked for before either is waited for.
  const parts = [engine(wasm, wait), modelBytes(model, wait)];
  report();
  try {
    const [module, bytes] = await Promise.all(parts);
    return { module: /** @type {WebAssembly.Module} */ (module), model: /** @type {Uint8Array} */ (bytes) };
  } catch (error) {
    for (const part of parts) part.catch(() => {}); // The first failure is the answer; the second must not surface.
    controller.abort();
    throw error;
  } finally {
    signal?.removeEventListener("abort", forward);
  }
}

/**
 * @param {unknown} source
 * @param {(one: Download<WebAssembly.Module>) => Promise<WebAssembly.Module>} wait
 * @returns {Promise<WebAssembly.Module>}
 */
async function engine(source, wait) {
  if (kindOf(source) === "WebAssembly.Module") return /** @type {WebAssembly.Module} */ (source);
  const bytes = asBytes(source);
  if (bytes) return WebAssembly.compile(/** @type {BufferSource} */ (bytes)).catch(badEngine);
  const url = asUrl(source, "wasm", "a URL, bytes or a WebAssembly.Module");
  return wait(
    download(engines, url, true, (response) =>
      WebAssembly.compileStreaming(response).catch((cause) => {
        if (cause instanceof WebAssembly.CompileError) badEngine(cause);
        throw brokenStream(url, cause);
      }),
    ),
  );
}

/**
 * @param {unknown} source
 * @param {(one: Download<Uint8Array>) => Promise<Uint8Array>} wait
 * @returns {Promise<Uint8Array>}
 */
async function modelBytes(source, wait) {
  const bytes = asBytes(source);
  if (bytes) return bytes;
  if (/^(Blob|File)$/.test(kindOf(source))) return new Uint8Array(await /** @type {Blob} */ (source).arrayBuffer());
  const url = asUrl(source, "model", "a URL, bytes or a Blob");
  return wait(
    download(models, url, false, async (response) => {
      try {
        return new Uint8Array(await response.arrayBuffer());
      } catch (cause) {
        throw brokenStream(url, cause);
      }
    }),
  );
}

/**
 * @param {unknown} source
 * @returns {Uint8Array | undefined}
 */
function asBytes(source) {
  if (source instanceof Uint8Array) return source;
  if (ArrayBuffer.isView(source)) return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
  if (/^(Shared)?ArrayBuffer$/.test(kindOf(source))) {
    return new Uint8Array(/** @type {ArrayBuffer} */ (source));
  }
}

/**
 * @param {unknown} source
 * @param {string} option
 * @param {string} expected
 * @returns {string}
 */
function asUrl(source, option, expected) {
  if (!/^(String|URL)$/.test(kindOf(source))) {
    throw new MicroYoloError("invalid-option", `\`${option}\` must be ${expected}`);
  }
  const base = typeof document === "object" ? document.baseURI : globalThis.location?.href;
  let url;
  try {
    url = new URL(String(source), base);
  } catch (cause) {
    throw new MicroYoloError("invalid-option", `\`${option}\` is not a URL: ${source}`, { cause });
  }
  if (url.protocol === "file:" && base === undefined) {
    // Node: fetch() reads no files.
    throw new MicroYoloError("unsupported", `outside a browser give \`${option}\` as bytes: read ${url.href} yourself`);
  }
  return url.href;
}
