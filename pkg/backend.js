// Where a detector computes: in a separate worker, or on the calling thread. Both forms have the same methods.
import { MicroYoloError, disposed } from "./error.js";
import { openWorker } from "./open-worker.js";
import { kindOf } from "./kind.js";
import { checkDrawable, copied, drawError, gone, localFrame, portableFrame, release as releaseFrame } from "./source.js";

/** @typedef {import("./settings.js").Settings} Settings */
/** @typedef {import("./settings.js").LoadSettings} LoadSettings */
/** @typedef {import("./source.js").Frame} Frame */
/** @typedef {import("./engine.js").ModelInfo} ModelInfo */
/** @typedef {import("./parts.js").Kind} Kind */
/** @typedef {import("./parts.js").Parts} Parts */

/**
 * @typedef {{ id: number } & (
 *   | { call: "load", kind: Kind, module: WebAssembly.Module, model: Uint8Array, settings: LoadSettings }
 *   | { call: "detect", frame: Frame, settings: Settings, track: number | undefined }
 *   | { call: "end-tracks", track: number }
 * )} Request
 */

/**
 * @typedef {object} Backend
 * @property {string} [address] of the worker's script
 * @property {(kind: Kind, module: WebAssembly.Module, model: Uint8Array, settings: LoadSettings) => Promise<ModelInfo>} load
 * again with another engine, if the first refused the model
 * @property {typeof localFrame} frame converts a source to the form that `detect` takes, synchronously if the source is available
 * @property {(frame: Frame, options: DetectRequest) => Promise<import("./engine.js").Found>} detect
 * @property {(track: number) => Promise<void>} endTracks
 * @property {(reason?: MicroYoloError) => void} stop ends everything; pending calls are rejected with `reason`
 */

/** @typedef {{ settings: Settings, track: number | undefined, transfer: boolean }} DetectRequest */

/**
 * @param {Parts} parts
 * @returns {Backend}
 */
export function localBackend({ engines }) {
  /** @type {import("./engine.js").Engine | undefined} */
  let engine;
  /** @type {MicroYoloError | undefined} */
  let stopped;
  const running = () => {
    if (stopped || !engine) throw stopped ?? disposed();
    return engine;
  };
  return {
    async load(kind, module, model, settings) {
      // Imported only here, so that a page whose detectors run in workers does not load the glue code twice.
      const { Engine, instance } = await /** @type {import("./parts.js").EnginePart} */ (engines[kind]).local().catch((cause) => {
        throw importError(cause);
      });
      const loaded = await Engine.load(instance, module, model, settings);
      if (stopped) {
        loaded.free();
        throw stopped;
      }
      engine = loaded;
      return engine.info;
    },
    frame: localFrame,
    async detect(frame, { settings, track }) {
      try {
        if (!("image" in frame) && !frame.data.length) throw gone();
        const found = running().detect(frame, settings, track);
        if ("image" in frame) {
          if (found.blank && !frame.ours) await checkDrawable(frame.image);
          if (found.plain) await frame.check?.();
        }
        return found;
      } finally {
        releaseFrame(frame);
      }
    },
    async endTracks(track) {
      running().endTracks(track);
    },
    stop(reason = disposed()) {
      stopped ??= reason;
      engine?.free();
      engine = undefined;
    },
  };
}

/** Seconds that a worker's script may take to start after engine and model were loaded. */
const PATIENCE = 20;

/**
 * @param {Parts} parts
 * @returns {Backend}
 */
export function workerBackend({ worker: start, helpers: bringHelpers }) {
  const { worker, address, release } = openWorker(start);
  /** @type {import("./helpers.js").Helpers | undefined} */
  let helpers;
  /** @type {Map<number, { resolve: (value: any) => void, reject: (error: MicroYoloError) => void }>} */
  const calls = new Map();
  let lastId = 0;
  let ready = false;
  /** @type {MicroYoloError | undefined} */
  let stopped;

  /** @param {MicroYoloError} reason */
  const stop = (reason) => {
    stopped ??= reason;
    worker.terminate();
    helpers?.stop();
    release();
    for (const { reject } of calls.values()) reject(stopped);
    calls.clear();
  };
  worker.onmessage = ({ data: { id, value, error } }) => {
    if (id === 0) {
      ready = true;
      release();
      return;
    }
    const call = calls.get(id);
    calls.delete(id);
    if (!error) {
      call?.resolve(value);
      return;
    }
    const refused = new MicroYoloError(error.code, error.message, { cause: error.cause });
    call?.reject(refused);
    if (error.code === "crashed") stop(refused); // Its memory is in an unknown state.
  };
  worker.onerror = (event) => {
    event.preventDefault();
    const cause = event.error ?? (event.message ? new Error(event.message) : undefined);
    stop(
      ready
        ? new MicroYoloError("crashed", `the worker crashed: ${event.message}`, { cause })
        : new MicroYoloError("worker-failed", "the worker script did not start", { cause }),
    );
  };

  /**
   * Firefox (seen in 153) reports nothing if one of several imports of a worker is missing. No browser reports a server
   * that does not respond. Seconds are counted one by one, so that a page that was busy or suspended loses only one.
   */
  const giveUpLate = () => {
    let left = PATIENCE;
    const timer = setInterval(() => {
      if (/** @type {any} */ (globalThis.document)?.prerendering) return; // The browser starts it when the page is shown.
      if (!ready && !stopped && (left -= 1) > 0) return;
      clearInterval(timer);
      if (!ready) stop(new MicroYoloError("worker-failed", `the worker script does not run after ${PATIENCE} s`));
    }, 1000);
  };

  worker.onmessageerror = () => stop(new MicroYoloError("crashed", "the worker's answer could not be read"));

  /**
   * @param {any} request
   * @param {Transferable[]} [transfer]
   * @returns {Promise<any>}
   */
  const call = (request, transfer = []) =>
    new Promise((resolve, reject) => {
      if (stopped) throw stopped;
      const id = (lastId += 1);
      worker.postMessage({ ...request, id }, transfer);
      calls.set(id, { resolve, reject });
    });

  return {
    address,
    async load(kind, module, model, settings) {
      // A view would be sent with its whole buffer. One whose buffer was transferred cannot be copied.
      const bytes = new Uint8Array(model.length ? model : []);
      giveUpLate();
      const { info, team } = await call({ call: "load", kind, module, model: bytes, settings }, [bytes.buffer]);
      if (!team || !bringHelpers) return info;
      const { Helpers } = await bringHelpers().catch((cause) => {
        throw importError(cause);
      });
      if (stopped) throw stopped;
      helpers = new Helpers();
      const threads = 1 + (await helpers.start(info.threads - 1, module, team, start));
      if (stopped) throw stopped;
      return { ...info, threads };
    },
    frame: portableFrame,
    async detect(frame, { settings, track, transfer }) {
      const send = (/** @type {Frame} */ frame, /** @type {Transferable} */ given) =>
        call({ call: "detect", frame, settings, track }, [given]);
      try {
        if ("image" in frame) {
          const { check, ...sent } = frame;
          const found = await send(sent, /** @type {ImageBitmap} */ (frame.image));
          if (found.plain) await check?.();
          return found;
        }
        const { buffer } = frame.data;
        if (transfer && kindOf(buffer) === "ArrayBuffer") {
          try {
            return await send(frame, /** @type {ArrayBuffer} */ (buffer));
          } catch (error) {
            if (error instanceof MicroYoloError) throw error;
            // The memory of a WebAssembly module cannot be transferred.
          }
        }
        const data = frame.ours ? /** @type {Uint8Array<ArrayBuffer>} */ (frame.data) : copied(frame.data);
        return await send({ ...frame, data }, data.buffer);
      } catch (error) {
        if (error instanceof MicroYoloError) throw error;
        // postMessage refused the bitmap. If it was closed or transferred meanwhile, this call throws the right error.
        if ("image" in frame) localFrame(frame.image, {});
        throw drawError(error);
      } finally {
        releaseFrame(frame);
      }
    },
    endTracks: (track) => call({ call: "end-tracks", track }),
    stop: (reason = disposed()) => stop(reason),
  };
}

/**
 * A module of this package could not be imported when it was needed.
 * @param {unknown} cause
 */
function importError(cause) {
  const inService = Object.prototype.toString.call(globalThis) === "[object ServiceWorkerGlobalScope]";
  return inService
    ? new MicroYoloError("unsupported", "a service worker imports nothing later on: import `micro-yolo/inline` there", { cause })
    : new MicroYoloError(
        "network",
        "a module of this package could not be imported: its file is missing beside the others, the network is gone, or a " +
          "content security policy forbids it (script-src); `micro-yolo/inline` needs no other file",
        { cause },
      );
}
