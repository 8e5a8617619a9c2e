// Creates a detector from options: chooses the engine and where it computes, and falls back if one is refused.
import { checkSum, loadAssets } from "./assets.js";
import { localBackend, workerBackend } from "./backend.js";
import { FROM_LOAD } from "./detector.js";
import { MicroYoloError, abortable, aborted, shown } from "./error.js";
import { kindOf } from "./kind.js";
import { whyNotStarted } from "./open-worker.js";
import { checkOptions } from "./options.js";
import { canShareMemory, checkPlatform } from "./platform.js";
import { checkedInputSize, checkedLimits, checkedSum, checkedThreads, defaultSettings, withSettings } from "./settings.js";

/** @typedef {import("./index.js").LoadOptions} LoadOptions */
/** @typedef {import("./parts.js").Parts} Parts */
/** @typedef {import("./parts.js").Kind} Kind */

const OPTIONS = ["model", "wasm", "inputSize", "worker", "threads", "limits", "sha256", "signal", "onProgress", ...Object.keys(defaultSettings)];

/**
 * Whether to start a worker by default: in a page. Not in Bun and Deno, where a worker keeps the process alive until it is
 * terminated. Not inside a worker: the page is not blocked there, and a second thread would only cost memory. In Firefox
 * (seen in 153) `new Worker` in a worker also sometimes never returns on a busy machine. (Libraries define a `document`
 * there.)
 */
const wantsWorker = () => typeof Worker === "function" && typeof document === "object" && !("WorkerGlobalScope" in globalThis);

/**
 * @template {typeof import("./detector.js").Detector} T
 * @param {T} Class of the detector
 * @param {Parts} parts
 * @param {LoadOptions} [options]
 * @returns {Promise<InstanceType<T>>}
 */
export async function load(Class, parts, options = {}) {
  checkOptions("Detector.load()", options, OPTIONS);
  const settings = withSettings(defaultSettings, options);
  const inputSize = checkedInputSize(options.inputSize);
  const threads = checkedThreads(options.threads);
  const onProgress = options.onProgress ?? undefined;
  if (onProgress !== undefined && typeof onProgress !== "function") throw new MicroYoloError("invalid-option", "`onProgress` must be a function");
  const limits = checkedLimits(options.limits);
  const sha256 = checkedSum(options.sha256);
  if (options.signal?.aborted) throw aborted(options.signal);
  checkPlatform();
  const { backend, info } = await open(parts, { ...options, sha256 }, { ...settings, inputSize, threads, limits });
  return /** @type {InstanceType<T>} */ (new Class(FROM_LOAD, backend, info, settings));
}

/**
 * Loads the engine and the model. Without the option `wasm`, the plain engine comes first, and the full one if the
 * model needs it. If no worker starts and the caller does not insist on one, the calling thread computes.
 * @param {Parts} parts
 * @param {LoadOptions} options
 * @param {import("./settings.js").LoadSettings} settings
 */
async function open(parts, { worker, signal, onProgress, ...options }, settings) {
  const model = options.model ?? parts.model();
  // Not by truthiness: an invalid engine must be refused, not ignored.
  const named = options.wasm !== undefined && options.wasm !== null;
  let inWorker = worker ?? wantsWorker();
  let loaded = 0;

  /** @param {Kind} kind */
  const engine = (kind) => ({ kind, wasm: partOf(parts, kind).file() });
  /** Helpers need a detector with a worker, because the page's thread must not wait for them. */
  const first = () => (inWorker && settings.threads > 1 && parts.engines.threads && canShareMemory() ? "threads" : "plain");

  /**
   * Switches to the calling thread, or throws if a worker was required.
   * @param {MicroYoloError} error why there is none
   * @param {string} [address] of its script
   */
  const insteadOfWorker = async (error, address = "") => {
    const cause = error.cause instanceof Error ? ` (${error.cause.message})` : "";
    const why = `${error.message}: ${await abortable(whyNotStarted(address), signal)}${cause}`;
    if (worker) {
      const message = `${why}. Without \`worker: true\` the calling thread computes instead`;
      throw new MicroYoloError("worker-failed", message, { cause: error.cause });
    }
    warnOnce(why);
    inWorker = false;
    return localBackend(parts);
  };

  /**
   * @param {{ kind?: Kind, wasm: import("./parts.js").EngineSource | Promise<import("./parts.js").EngineSource> }} wanted
   * @param {import("./parts.js").ModelSource | Promise<import("./parts.js").ModelSource>} source
   */
  const fetched = async ({ kind, wasm }, source) => {
    const before = loaded;
    const assets = await loadAssets({
      wasm,
      model: source,
      signal,
      limits: settings.limits,
      onProgress(progress) {
        loaded = before + progress.loaded;
        onProgress?.({ loaded, total: progress.total === undefined ? undefined : before + progress.total });
      },
    });
    return { ...assets, kind: kind ?? engineKindOf(assets.module) };
  };

  /** @type {import("./backend.js").Backend | undefined} */
  let backend;
  try {
    try {
      // Before the downloads, so that the worker starts meanwhile.
      backend = inWorker ? workerBackend(parts) : localBackend(parts);
    } catch (error) {
      if (!(error instanceof MicroYoloError && error.code === "worker-failed")) throw error;
      backend = await insteadOfWorker(error);
    }
    let assets = await fetched(named ? { wasm: /** @type {any} */ (options.wasm) } : engine(first()), model);
    if (options.sha256) await checkSum(assets.model, options.sha256);
    for (;;) {
      partOf(parts, assets.kind);
      try {
        const threads = inWorker ? settings.threads : 1;
        const info = await abortable(backend.load(assets.kind, assets.module, assets.model, { ...settings, threads }), signal);
        return { backend, info: { ...info, worker: inWorker } };
      } catch (error) {
        if (!(error instanceof MicroYoloError)) throw error;
        if (error.code === "needs-tract" && !named && assets.kind !== "full" && parts.engines.full) {
          assets = await fetched(engine("full"), assets.model);
        } else if (error.code === "worker-failed" && inWorker) {
          backend = await insteadOfWorker(error, backend.address);
          if (!named && assets.kind === "threads") assets = await fetched(engine("plain"), assets.model);
        } else {
          throw explained(error, model, named);
        }
      }
    }
  } catch (error) {
    backend?.stop();
    throw error;
  }
}

/**
 * @param {Parts} parts
 * @param {Kind} kind
 */
function partOf(parts, kind) {
  const part = parts.engines[kind];
  if (part) return part;
  throw new MicroYoloError("invalid-option", `this entry of the package has no glue for the "${kind}" engine: import \`micro-yolo\``);
}

/**
 * @param {WebAssembly.Module} module
 * @returns {Kind}
 */
function engineKindOf(module) {
  const exports = new Set(WebAssembly.Module.exports(module).map(({ name }) => name));
  if (exports.has("withTract")) return "full";
  return exports.has("roundAddress") ? "threads" : "plain";
}

/**
 * Adds what only the caller of the engine knows: the source of the model, and which entry has another engine.
 * @param {MicroYoloError} error
 * @param {unknown} model
 * @param {boolean} named whether the user chose the engine
 */
function explained({ code, message, cause }, model, named) {
  const ofModel = ["invalid-model", "unsupported-model", "model-too-large", "unsupported-operator", "needs-tract"].includes(code);
  const address = ofModel && (typeof model === "string" || kindOf(model) === "URL") ? `${shown(model)}: ` : "";
  const entry = code === "needs-tract" && !named ? ". This entry of the package has no engine for it: import `micro-yolo`" : "";
  return new MicroYoloError(code, `${address}${message}${entry}`, { cause });
}

let warned = false;

/**
 * Only once per page: every further detector would repeat it.
 * @param {string} why
 */
function warnOnce(why) {
  if (warned) return;
  warned = true;
  console.warn(
    `micro-yolo: no worker, so the calling thread computes: ${why}. \`worker: false\` asks for this; \`detector.worker\` tells.`,
  );
}
