// The loop over a video's frames, and what may go wrong around it. The video and what computes are made up.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Detector, FROM_LOAD } from "../../pkg/detector.js";
import { defaultSettings } from "../../pkg/settings.js";

const NEVER = new Promise(() => {});
const INFO = { labels: ["cat"], input: { width: 32, height: 32 }, foreign: [], build: "simd128", threads: 1, worker: true };

class HTMLVideoElement extends EventTarget {
  get [Symbol.toStringTag]() {
    return "HTMLVideoElement";
  }
}

/** A paused video without a picture. */
function video() {
  return Object.assign(new HTMLVideoElement(), {
    requestVideoFrameCallback: () => 0,
    cancelVideoFrameCallback() {},
    networkState: 1,
    readyState: 0,
    ownerDocument: Object.assign(new EventTarget(), { visibilityState: "visible", defaultView: new EventTarget() }),
  });
}

/** A detector whose worker answers nothing, as one that the browser has killed. */
const silent = () => new Detector(FROM_LOAD, { endTracks: () => NEVER, stop() {} }, INFO, defaultSettings);

/** What has become of it in a tenth of a second. */
const within = (promise) => {
  const late = new Promise((resolve) => setTimeout(resolve, 100, "late"));
  return Promise.race([promise.catch(({ code }) => code), late]);
};

test("a loop that tracks ends by its signal, by return() and with its detector, though the worker says nothing", async () => {
  const stop = new AbortController();
  const frames = silent().watch(video(), { track: true, signal: stop.signal });
  const first = frames.next();
  stop.abort();
  assert.deepEqual(await within(first), { value: undefined, done: true });

  const left = silent().watch(video(), { track: true });
  void left.next();
  assert.deepEqual(await within(left.return()), { value: undefined, done: true });

  const detector = silent();
  const over = detector.watch(video(), { track: true }).next();
  detector.dispose();
  assert.equal(await within(over), "disposed");
});

test("options of a wrong type are refused: text is true, that of `false` too", async () => {
  for (const value of ["false", "yes", 1, 0, {}]) {
    assert.throws(() => silent().watch(video(), { track: value }), { code: "invalid-option", message: /`track` must be a boolean/ }, String(value));
    await assert.rejects(silent().detect(new Uint8Array(), { transfer: value }), { code: "invalid-option", message: /`transfer` must be a boolean/ });
  }
  for (const value of [undefined, null, true, false]) void silent().watch(video(), { track: value });
});
