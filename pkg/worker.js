// The only worker script of this package: the engine of a detector, or a helper of one.
//
// A detector's engine receives messages `{ id, call, ... }` and sends `{ id, value }` or `{ id, error }` in the same order;
// that is the queue. A helper gets one message.
//
// There is one script, with only static imports, because bundlers differ in what they support in workers. Vite 5 to 7 make
// no second file for a worker, and Parcel (seen in 2.16) makes none that two workers share.
import { instance as full } from "./engine-full.js";
import { instance as plain } from "./engine-plain.js";
import { instance as threads } from "./engine-threads.js";
import { Engine } from "./engine.js";
import { MicroYoloError } from "./error.js";
import init, { help } from "./wasm/micro_yolo_threads.js";

const instances = { full, plain, threads };

/** Bytes of stack of a helper. Kernels need a tenth of it. */
const STACK = 1 << 18;

/** @type {Engine | undefined} */
let engine;

/**
 * @param {import("./backend.js").Request} request
 * @returns {Promise<{ value?: unknown, transfer?: Transferable[] }>}
 */
async function answer(request) {
  if (request.call === "load") {
    engine = await Engine.load(instances[request.kind], request.module, request.model, request.settings);
    return { value: { info: engine.info, team: engine.team } };
  }
  if (!engine) throw new MicroYoloError("worker-failed", "the worker was asked before it had loaded");
  if (request.call === "end-tracks") {
    engine.endTracks(request.track);
    return {};
  }
  const value = engine.detect(request.frame, request.settings, request.track);
  return { value, transfer: [value.rows.buffer] };
}

/**
 * Converts an error to plain data: structured cloning would drop its code.
 * @param {unknown} error
 */
function described(error) {
  const { code, message } = /** @type {Partial<MicroYoloError>} */ (error);
  const cause = code ? /** @type {Error} */ (error).cause : error;
  return { code: code ?? "crashed", message: String(message), cause: cause instanceof Error ? cause : undefined };
}

/**
 * Sleeps on the counter `round`, and computes with the detector's engine while it is odd.
 * @param {import("./helpers.js").Task} task
 */
async function assist({ module, memory, round, member }) {
  await init({ module_or_path: module, memory, thread_stack_size: STACK });
  postMessage({ id: 1 });
  const words = new Int32Array(memory.buffer);
  // Never returns to the event loop: the detector terminates the worker from outside.
  for (;;) {
    const now = Atomics.load(words, round / 4);
    if (now % 2) help(member);
    else Atomics.wait(words, round / 4, now);
  }
}

addEventListener("message", async ({ data: request }) => {
  if (request.call === "help") return assist(request);
  const { id } = request;
  try {
    const { value, transfer = [] } = await answer(request);
    postMessage({ id, value }, { transfer });
  } catch (error) {
    postMessage({ id, error: described(error) });
  }
});
addEventListener("messageerror", () => {
  throw new Error("a message to the worker could not be read"); // Its call is unknown, so an uncaught error ends all calls.
});
postMessage({ id: 0 }); // The script runs: from here on an uncaught error is a crash, not a failed start.
