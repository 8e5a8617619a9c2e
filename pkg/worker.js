// The worker: one engine, asked by messages `{ id, call, ... }`, answering `{ id, value }` or `{ id, error }`.
// Messages are answered in the order in which they came; that is the queue.
import { Engine } from "./engine.js";
import { MicroYoloError } from "./error.js";

/** @type {Engine | undefined} */
let engine;

/**
 * @param {import("./backend.js").Request} request
 * @returns {Promise<{ value?: unknown, transfer?: Transferable[] }>}
 */
async function answer(request) {
  if (request.call === "load") {
    engine = await Engine.load(request.module, request.model, request.settings);
    return { value: { info: engine.info, team: engine.team } };
  }
  if (!engine) throw new MicroYoloError("worker-failed", "the worker was asked before it had loaded");
  if (request.call === "reset-tracks") {
    engine.resetTracks();
    return {};
  }
  const rows = engine.detect(request.frame, request.settings, request.track);
  return { value: rows, transfer: [rows.buffer] };
}

/**
 * An error as plain data: copied as such it would lose its code.
 * @param {unknown} error
 */
function described(error) {
  const { code, message } = /** @type {Partial<MicroYoloError>} */ (error);
  const cause = code ? /** @type {Error} */ (error).cause : error;
  return { code: code ?? "crashed", message: String(message), cause: cause instanceof Error ? cause : undefined };
}

addEventListener("message", async ({ data: request }) => {
  const { id } = request;
  try {
    const { value, transfer = [] } = await answer(request);
    postMessage({ id, value }, { transfer });
  } catch (error) {
    postMessage({ id, error: described(error) });
  }
});
postMessage({ id: 0 }); // The script runs: from here on an uncaught error is a crash, not a failed start.
