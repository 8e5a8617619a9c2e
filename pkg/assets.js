// Loads the two files that a detector needs, engine (WebAssembly) and model (ONNX), from the network or from bytes,
// with progress. Two simultaneous loads of one URL share one download. A failed download is forgotten, so that the next
// load tries again.
import { MicroYoloError, abortable, aborted, given, notFetched, pageInstead, shown } from "./error.js";
import { kindOf } from "./kind.js";
import { remedy } from "./packaged.js";
import { platformError } from "./platform.js";
import { MEMORY_BYTES } from "./settings.js";
import { observed } from "./stream.js";

/** @typedef {import("./index.js").Progress} Progress */
/** @typedef {(progress: Progress) => void} OnProgress */

/**
 * The state of a download and its waiting callers.
 * @template T
 */
class Download {
  /** Bytes received so far, decompressed. */
  loaded = 0;
  /** @type {number | undefined} All bytes, where the server says it. */
  total;
  /** The first bytes, which distinguish a model from a web page. */
  head = new Uint8Array();
  #waiting = new Set();
  #controller = new AbortController();
  #finished = false;

  /** @param {(download: Download<T>, signal: AbortSignal) => Promise<T>} start */
  constructor(start) {
    this.promise = start(this, this.#controller.signal);
    this.promise.then(
      () => (this.#finished = true),
      () => {
        this.#finished = true;
        this.#controller.abort(); // A file refused by its first bytes would otherwise be downloaded to its end.
      },
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
   * Waits for the download. When the last waiting caller has given up, the download stops.
   * @param {AbortSignal | undefined} signal
   * @param {() => void} onProgress
   * @param {(bytes: number) => void} [check] throws if this caller does not accept so many bytes
   * @returns {Promise<T>}
   */
  async join(signal, onProgress, check = () => {}) {
    const checkSize = () => check(Math.max(this.loaded, this.total ?? 0));
    /** @type {(error: unknown) => void} */
    let refuse = () => {};
    const refused = new Promise((_, reject) => (refuse = reject));
    const waiter = {
      onProgress() {
        try {
          checkSize();
        } catch (error) {
          refuse(error);
        }
        onProgress();
      },
    };
    this.#waiting.add(waiter);
    try {
      checkSize(); // The download may already have begun.
      return await abortable(Promise.race([this.promise, refused]), signal);
    } finally {
      this.#waiting.delete(waiter);
      if (this.#waiting.size === 0 && !this.#finished) this.#controller.abort();
    }
  }

  /** Whether it was given up. A later caller starts a new download. */
  get abandoned() {
    return this.#controller.signal.aborted;
  }
}

/** @type {Map<string, Download<WebAssembly.Module>>} Kept when loaded: compiling is the expensive part. */
const engines = new Map();
/** @type {Map<string, Download<Uint8Array>>} Kept while pending only: the bytes belong to the detectors. */
const models = new Map();

/**
 * @template T
 * @param {Map<string, Download<T>>} downloads
 * @param {string} url
 * @param {boolean} keep
 * @param {(response: Response, self: Download<T>) => Promise<T>} read
 * @returns {Download<T>}
 */
function download(downloads, url, keep, read) {
  const running = downloads.get(url);
  if (running && !running.abandoned) return running;
  /** @type {Download<T>} */
  const started = new Download(async (self, signal) => read(await fetchCounted(url, self, signal), self));
  const forget = () => {
    if (downloads.get(url) === started) downloads.delete(url);
  };
  started.promise.then(keep ? undefined : forget, forget);
  downloads.set(url, started);
  return started;
}

/** Number of bytes kept from the beginning of a file: white space may precede a page's first tag. */
const HEAD = 64;

/**
 * Fetches `url` and counts its bytes as they arrive.
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
    throw notFetched(url, cause, remedy(url));
  }
  if (!response.ok) throw networkError(url, `answered ${response.status}`);
  // For a compressed response, content-length is the compressed size, but the stream is decompressed: so the total is
  // unknown.
  const length = response.headers.get("content-encoding") ? undefined : Number(response.headers.get("content-length"));
  let loaded = 0;
  progress.report(0, length || undefined); // Before the first byte: a file that is too large is refused by its declared length.
  const count = (/** @type {Uint8Array} */ chunk) => {
    loaded += chunk.byteLength;
    if (progress.head.length === 0) progress.head = chunk.slice(0, HEAD);
    progress.report(loaded, length && loaded <= length ? length : undefined);
  };
  const end = () => progress.report(loaded, loaded);
  let body;
  if (response.body) {
    body = observed(response.body, count, end);
  } else {
    // A fetch() of the page's own may give no stream.
    body = await response.arrayBuffer().catch((cause) => {
      throw brokenStream(url, cause);
    });
    count(new Uint8Array(body));
    end();
  }
  // With our own type, so that a server with a wrong MIME type does not prevent compilation.
  return new Response(body, { headers: { "content-type": "application/wasm" } });
}

/**
 * @param {string} url
 * @param {string} what
 * @param {unknown} [cause]
 */
function networkError(url, what, cause) {
  return new MicroYoloError("network", `${shown(url)} ${what}${remedy(url)}`, { cause });
}

/**
 * @param {string} url
 * @param {unknown} cause
 */
function brokenStream(url, cause) {
  return networkError(url, "stopped before its end", cause);
}

/**
 * Whether a file is a web page: many servers send one for a missing file. Neither a WebAssembly module nor an ONNX file
 * begins with `<`. A byte order mark may precede it.
 * @param {Uint8Array} head
 */
function isPage(head) {
  return /^(\xef\xbb\xbf)?\s*</.test(bytesAsText(head));
}

/**
 * One character per byte. jsdom in Jest has no TextDecoder, and that of browsers refuses shared memory.
 * @param {Uint8Array} bytes
 */
function bytesAsText(bytes) {
  return String.fromCharCode(...bytes);
}

/** The first bytes of files that are often mistaken for models, and what to do. No ONNX file begins like this. */
const OTHERS = Object.entries({
  "\x1f\x8b": "compressed by gzip: unpack it, or have the server send `Content-Encoding: gzip` with it",
  "PK\x03\x04": "a zip archive, as checkpoints of PyTorch are: unpack it, or export the network as ONNX",
  "version https://git-lfs": "a pointer of Git LFS, not the file itself: fetch that with `git lfs pull`",
});

/**
 * Throws if the first bytes show that the file is not a model: the engine would only report that it cannot read it.
 * @param {Uint8Array} model
 * @param {string} [address]
 */
function checkKind(model, address) {
  if (!model.length) return; // A transferred buffer has no bytes.
  const head = model.subarray(0, HEAD);
  const text = bytesAsText(head);
  const kind = OTHERS.find(([start]) => text.startsWith(start))?.[1];
  if (kind) throw new MicroYoloError("invalid-model", `${address ? shown(address) : "the model"} is ${kind}`);
  if (!isPage(head)) return;
  const page = address ? pageInstead(address, "the model") + remedy(address) : "the model is a web page, as some servers send where a file is missing";
  throw new MicroYoloError("invalid-model", page);
}

/**
 * Compiles an engine.
 * @param {Uint8Array} bytes
 * @returns {Promise<WebAssembly.Module>}
 */
export async function compiled(bytes) {
  try {
    return await WebAssembly.compile(ofFixedSize(bytes));
  } catch (cause) {
    throw platformError(cause) ?? badEngine("these bytes are", cause);
  }
}

/**
 * The bytes in memory that every function of a browser accepts: not shared, and not resizable. Copying takes little time
 * in comparison.
 * @param {Uint8Array} bytes
 * @returns {Uint8Array<ArrayBuffer>}
 */
function ofFixedSize(bytes) {
  const { buffer } = bytes;
  const isFixed = buffer instanceof ArrayBuffer && !(/** @type {{ resizable?: boolean }} */ (buffer).resizable);
  return isFixed ? /** @type {Uint8Array<ArrayBuffer>} */ (bytes) : new Uint8Array(bytes);
}

/**
 * Returns the module if it is an engine. Any other module would stay in the glue code of this thread, and a later
 * engine would not replace it.
 * @param {WebAssembly.Module} module
 * @param {string} what
 */
function checkedEngine(module, what) {
  if (WebAssembly.Module.exports(module).some(({ name }) => name === "engine_new")) return module;
  throw badEngine(what);
}

/**
 * @param {string} what
 * @param {unknown} [cause]
 */
function badEngine(what, cause) {
  return new MicroYoloError("invalid-engine", `${what} not the WebAssembly module of this package`, { cause });
}

/**
 * Throws if a model does not have the expected SHA-256.
 * @param {Uint8Array} model
 * @param {string} sha256
 */
export async function checkSum(model, sha256) {
  if (!globalThis.crypto?.subtle) {
    throw new MicroYoloError("unsupported", "`sha256` cannot be checked here: only pages sent by https, and localhost, have `crypto.subtle`");
  }
  const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", ofFixedSize(model)));
  const found = Array.from(sum, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== sha256) throw new MicroYoloError("invalid-model", `the model is another file than was meant: its SHA-256 is ${found}`);
}

/**
 * Returns a function that throws if a model with this number of bytes cannot fit the limit: its content is the least of
 * what is made from it. Without this check, an endless response would fill the memory.
 * @param {import("./index.js").Limits | undefined} limits
 * @param {string} [address]
 */
function sizeCheck(limits, address = "the model") {
  const most = limits?.memoryBytes ?? MEMORY_BYTES;
  return (/** @type {number} */ bytes) => {
    if (bytes <= most) return;
    throw new MicroYoloError(
      "model-too-large",
      `${address} has more than the ${most} bytes of memory that a model may take; ` +
        "the option `limits` (`memoryBytes`) raises it, for a file that you trust",
    );
  };
}

/** The largest engine of this package has less than an eighth of this. */
const ENGINE_BYTES = 64 * 2 ** 20;

/**
 * Returns a function that throws if a file with this number of bytes cannot be an engine of this package: an endless
 * response would fill the memory.
 * @param {string} address
 */
function engineCheck(address) {
  return (/** @type {number} */ bytes) => {
    if (bytes <= ENGINE_BYTES) return;
    throw new MicroYoloError(
      "invalid-engine",
      `${address} is not the WebAssembly module of this package: it has more than ${ENGINE_BYTES} bytes`,
    );
  };
}

/**
 * Loads engine and model in parallel.
 *
 * @param {object} wanted
 * @param {import("./parts.js").EngineSource | Promise<import("./parts.js").EngineSource>} wanted.wasm
 * @param {import("./parts.js").ModelSource | Promise<import("./parts.js").ModelSource>} wanted.model
 * @param {AbortSignal} [wanted.signal]
 * @param {OnProgress} [wanted.onProgress]
 * @param {import("./index.js").Limits} [wanted.limits]
 * @returns {Promise<{ module: WebAssembly.Module, model: Uint8Array }>}
 */
export async function loadAssets({ wasm, model, signal, onProgress, limits }) {
  if (signal?.aborted) throw aborted(signal);
  // Aborted by the caller's signal, or if one of the two parts fails: the other is not needed then.
  const controller = new AbortController();
  const forward = () => controller.abort(signal?.reason);
  signal?.addEventListener("abort", forward, { once: true });
  /** @type {Download<any>[]} */
  const downloads = [];
  let last = -1;
  /** @type {{ error: unknown } | undefined} By the caller's own function: others wait for the same download. */
  let thrown;
  const report = () => {
    if (!onProgress || thrown) return;
    const loaded = downloads.reduce((sum, one) => sum + one.loaded, 0);
    if (loaded === last) return;
    last = loaded;
    const total = downloads.reduce(
      (/** @type {number | undefined} */ sum, one) =>
        sum === undefined || one.total === undefined ? undefined : sum + one.total,
      0,
    );
    try {
      onProgress({ loaded, total });
    } catch (error) {
      thrown = { error };
      controller.abort();
    }
  };
  /**
   * @template T
   * @param {Download<T>} one
   * @param {(bytes: number) => void} [check]
   */
  const wait = (one, check) => {
    downloads.push(one);
    return one.join(controller.signal, report, check);
  };
  // Both are requested before either is awaited.
  const parts = [engine(wasm, wait), modelBytes(model, wait, limits)];
  report();
  try {
    // The signal also ends work that is not a download, such as reading a file from a slow disk.
    const [module, bytes] = await abortable(Promise.all(parts), controller.signal);
    if (thrown) throw thrown;
    return { module: /** @type {WebAssembly.Module} */ (module), model: /** @type {Uint8Array} */ (bytes) };
  } catch (error) {
    for (const part of parts) part.catch(() => {}); // The first failure is reported; the second must not be unhandled.
    controller.abort();
    throw thrown ? /** @type {{ error: unknown }} */ (thrown).error : error;
  } finally {
    signal?.removeEventListener("abort", forward);
  }
}

/**
 * @param {any} given
 * @param {(one: Download<WebAssembly.Module>, check: (bytes: number) => void) => Promise<WebAssembly.Module>} wait
 * @returns {Promise<WebAssembly.Module>}
 */
async function engine(given, wait) {
  const source = kindOf(given) === "Promise" ? await given : given;
  if (kindOf(source) === "WebAssembly.Module") return checkedEngine(source, "this module is");
  const bytes = asBytes(source);
  if (bytes) return checkedEngine(await compiled(bytes), "these bytes are");
  const url = asUrl(source, "wasm", "a URL, bytes or a WebAssembly.Module");
  return wait(
    download(engines, url, true, async (response, self) => {
      const compiling = response.body ? WebAssembly.compileStreaming(response) : response.arrayBuffer().then((bytes) => WebAssembly.compile(bytes));
      const module = await compiling.catch((cause) => {
        if (!(cause instanceof WebAssembly.CompileError)) throw brokenStream(url, cause);
        if (isPage(self.head)) throw new MicroYoloError("invalid-engine", pageInstead(url, "the engine") + remedy(url), { cause });
        throw platformError(cause, shown(url)) ?? badEngine(`${shown(url)} is`, cause);
      });
      return checkedEngine(module, `${shown(url)} is`);
    }),
    engineCheck(shown(url)),
  );
}

/**
 * @param {any} given
 * @param {(one: Download<Uint8Array>, check: (bytes: number) => void) => Promise<Uint8Array>} wait
 * @param {import("./index.js").Limits} [limits]
 * @returns {Promise<Uint8Array>}
 */
async function modelBytes(given, wait, limits) {
  const source = kindOf(given) === "Promise" ? await given : given;
  const bytes = asBytes(source);
  if (bytes) {
    sizeCheck(limits)(bytes.length);
    checkKind(bytes);
    return bytes;
  }
  if (/^(Blob|File)$/.test(kindOf(source))) {
    sizeCheck(limits)(source.size);
    let content;
    try {
      content = new Uint8Array(await source.arrayBuffer());
    } catch (cause) {
      const message = "the model's Blob cannot be read: its file was changed or removed since it was chosen";
      throw new MicroYoloError("invalid-model", message, { cause });
    }
    checkKind(content);
    return content;
  }
  const url = asUrl(source, "model", "a URL, bytes or a Blob");
  return wait(
    download(models, url, false, async (response) => {
      let model;
      try {
        model = new Uint8Array(await response.arrayBuffer());
      } catch (cause) {
        throw brokenStream(url, cause);
      }
      checkKind(model, url);
      return model;
    }),
    sizeCheck(limits, shown(url)),
  );
}

/**
 * @param {unknown} source
 * @returns {Uint8Array | undefined}
 */
function asBytes(source) {
  if (source instanceof Uint8Array) return source;
  try {
    if (ArrayBuffer.isView(source)) return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
    if (/^(Shared)?ArrayBuffer$/.test(kindOf(source))) return new Uint8Array(/** @type {ArrayBuffer} */ (source));
  } catch {
    return new Uint8Array(); // Its buffer was transferred.
  }
}

/** @type {Record<string, string>} How bytes come of what was given instead. */
const HINTS = {
  FileList: ": give one of its files",
  FileSystemFileHandle: ": give `await handle.getFile()`",
  ReadableStream: ": give `await new Response(stream).arrayBuffer()`",
  Request: ": give its `url`",
  Response: ": give `await response.arrayBuffer()`",
};

/**
 * @param {any} source
 * @param {"wasm" | "model"} option
 * @param {string} expected
 * @returns {string}
 */
function asUrl(source, option, expected) {
  if (!/^(String|URL)$/.test(kindOf(source))) {
    throw new MicroYoloError("invalid-option", `\`${option}\` must be ${expected}, not ${given(source)}${HINTS[kindOf(source)] ?? ""}`);
  }
  if (!String(source).trim()) {
    // It would mean the page's own URL.
    throw new MicroYoloError("invalid-option", `\`${option}\` is an empty address; leave it out for the file of the package`);
  }
  if (isBase64(String(source))) {
    throw new MicroYoloError(
      "invalid-option",
      `\`${option}\` is base64 text, ${shown(source)}, where ${expected} is wanted: decode it to bytes`,
    );
  }
  const base = typeof document === "object" ? document.baseURI : globalThis.location?.href;
  let url;
  try {
    url = new URL(String(source), base);
  } catch (cause) {
    const hint = base === undefined ? "; outside a browser give the bytes of a file" : "";
    throw new MicroYoloError("invalid-option", `\`${option}\` is not a URL: ${shown(source)}${hint}`, { cause });
  }
  if (url.protocol === "file:" && base === undefined) {
    // In Node, fetch() cannot read files.
    throw new MicroYoloError(
      "unsupported",
      `outside a browser give \`${option}\` as bytes: read ${url.href} yourself`,
    );
  }
  return url.href;
}

/**
 * Whether the text is a file in base64 and not a URL. An engine begins with `\0asm`; both kinds of files are long.
 * @param {string} text
 */
function isBase64(text) {
  return text.startsWith("AGFzbQ") || (text.length > 1000 && /^[\w+/=\s-]+$/.test(text));
}
