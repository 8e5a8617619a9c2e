// What happens while a call waits: aborts, a worker's last words, a video that changes its size. All of it is made up.
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { loadAssets } from "../../pkg/assets.js";
import { workerBackend } from "../../pkg/backend.js";
import { localFrame } from "../../pkg/source.js";

const NEVER = new Promise(() => {});
/** What exports no more than that by which an engine is told: `(module (func (export "engine_new")))` */
const ENGINE = new WebAssembly.Module(
  Buffer.concat([Buffer.from([0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 7, 14, 1, 10]), Buffer.from("engine_new"), Buffer.from([0, 0, 10, 4, 1, 2, 0, 11])]),
);
const before = { ...globalThis };

afterEach(() => {
  for (const name of ["Worker", "createImageBitmap"]) Object.assign(globalThis, { [name]: before[name] });
});

/** What has become of it in a tenth of a second. */
const within = (promise) =>
  Promise.race([promise.catch(({ code }) => code), new Promise((resolve) => setTimeout(resolve, 100, "late"))]);

/** A class of the platform by its name. */
const named = (name, properties) => Object.defineProperties({ [Symbol.toStringTag]: name }, Object.getOwnPropertyDescriptors(properties));

test("loading ends by its signal while a file of the visitor's disk is read", async () => {
  const stop = new AbortController();
  const model = named("File", { size: 9, arrayBuffer: () => NEVER });
  const loading = loadAssets({ wasm: ENGINE, model, signal: stop.signal });
  setTimeout(() => stop.abort(new Error("enough")), 10);
  assert.equal(await within(loading), "aborted");
  await assert.rejects(loading, ({ cause }) => cause.message === "enough");
  // Of the one part the failure is not kept back by the other.
  assert.equal(await within(loadAssets({ wasm: /** @type {any} */ (7), model })), "invalid-option");
});

test("a model that is refused is named by its address, if that is a URL of another window too", async () => {
  const { Detector } = await import("../../pkg/small.js");
  const address = "data:application/octet-stream,nothing";
  for (const model of [address, new URL(address), named("URL", { toString: () => address })]) {
    await assert.rejects(Detector.load({ model: /** @type {any} */ (model) }), ({ code, message }) => {
      assert.ok(code === "invalid-model" && message.startsWith(`${address}: `), `${code}: ${message}`);
      return true;
    });
  }
});

test("a message of the worker that cannot be read ends its calls", async () => {
  globalThis.Worker = class {}; // There are workers.
  const worker = /** @type {any} */ ({ postMessage() {}, terminate() {} });
  const backend = workerBackend(/** @type {any} */ ({ worker: () => worker }));
  const call = backend.endTracks(1);
  worker.onmessage({ data: { id: 0 } });
  worker.onmessageerror?.(new Event("messageerror"));
  assert.equal(await within(call), "crashed");
  assert.equal(await within(backend.endTracks(1)), "crashed");
});

test("a frame has the size that the video had when it was taken", async () => {
  const video = named("HTMLVideoElement", { error: null, networkState: 1, readyState: 4, seeking: false, videoWidth: 640, videoHeight: 480 });
  const closed = [];
  let made = 0;
  globalThis.createImageBitmap = async ({ videoWidth: width, videoHeight: height }) => {
    const bitmap = named("ImageBitmap", { width, height, close: () => closed.push(width) });
    // The stream changes its size meanwhile, once.
    if ((made += 1) === 1) Object.assign(video, { videoWidth: 320, videoHeight: 180 });
    return bitmap;
  };
  const { width, height, image } = await localFrame(/** @type {any} */ (video), { portable: true });
  assert.deepEqual([width, height, image.width, image.height], [320, 180, 320, 180]);
  assert.deepEqual(closed, [640], "what nobody looks at is freed");
});
