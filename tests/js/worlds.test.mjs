// Objects that other code made: of another realm (an iframe, a test runner's `vm`), of node, behind a framework's proxy.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { openAsBlob } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import vm from "node:vm";
import { gzipSync } from "node:zlib";
import { reactive, readonly, ref } from "@vue/reactivity";
import { Detector, MicroYoloError } from "../../pkg/index.js";
import { located } from "../../pkg/packaged.js";

const at = (path) => new URL(`../../${path}`, import.meta.url);

/** Classes of another realm, as an iframe has them. */
const foreign = vm.runInNewContext("({ Uint8Array, Uint8ClampedArray, ArrayBuffer, DataView, Float32Array, Array, WebAssembly })");

let engine, model, options;
before(async () => {
  [engine, model] = await Promise.all(
    ["pkg/wasm/micro_yolo_full_bg.wasm", "tests/e2e/fixtures/red-spot.onnx"].map((path) => readFile(at(path))),
  );
  options = { wasm: await WebAssembly.compile(engine), model, worker: false };
});

/** A red rectangle on grey. */
function spot() {
  const [width, height] = [64, 48];
  const data = new Uint8Array(width * height * 4).fill(255);
  for (let pixel = 0; pixel < width * height; pixel += 1) {
    const [column, row] = [pixel % width, Math.floor(pixel / width)];
    data.set(column >= 8 && column < 40 && row >= 8 && row < 30 ? [255, 0, 0] : [110, 120, 130], pixel * 4);
  }
  return { data, width, height };
}

const labels = (objects) => objects.map(({ label }) => label);
const failure = (work) =>
  Promise.resolve()
    .then(work)
    .then(
      () => undefined,
      (error) => error,
    );

describe("pixels", () => {
  let detector;
  before(async () => (detector = await Detector.load(options)));

  test("bytes of every kind and realm", async () => {
    const { data, width, height } = spot();
    const memory = new WebAssembly.Memory({ initial: 4 });
    const shared = new SharedArrayBuffer(data.length);
    const large = Buffer.alloc(data.length + 64);
    const kinds = {
      "Buffer": Buffer.from(data),
      "Buffer of a pool": large.subarray(24, 24 + data.length),
      "Uint8ClampedArray": new Uint8ClampedArray(data),
      "another realm's Uint8Array": new foreign.Uint8Array(data),
      "another realm's Uint8ClampedArray": new foreign.Uint8ClampedArray(data),
      "a view of another realm's buffer": new Uint8Array(new foreign.ArrayBuffer(data.length)),
      "wasm memory": new Uint8Array(memory.buffer, 256, data.length),
      "shared memory": new Uint8ClampedArray(shared),
    };
    for (const [kind, bytes] of Object.entries(kinds)) {
      bytes.set(data);
      assert.deepEqual(labels(await detector.detect({ data: bytes, width, height })), ["red spot"], kind);
    }
    // As ImageData of an iframe looks, or of a test runner's DOM.
    class ImageData {
      data = new foreign.Uint8ClampedArray(data);
      width = width;
      height = height;
      [Symbol.toStringTag] = "ImageData";
    }
    assert.deepEqual(labels(await detector.detect(new ImageData())), ["red spot"]);
  });

  test("what are no bytes is refused, whatever realm it is of", async () => {
    const wrong = [new foreign.Float32Array(4), new Int8Array(4), [0, 0, 0, 0], "0000", new foreign.DataView(new ArrayBuffer(4))];
    const posing = { length: 4, [Symbol.toStringTag]: "Uint8Array" };
    for (const data of [...wrong, posing]) {
      assert.equal((await failure(() => detector.detect({ data, width: 1, height: 1 }))).code, "invalid-image", String(data));
    }
  });

  test("a selector in place of an element is told from an address", async () => {
    const { code, message } = await failure(() => detector.detect("#photo"));
    assert.equal(code, "invalid-source");
    assert.match(message, /give the element/);
  });

  test("what a picture could be made of is said with how", async () => {
    const element = (kind, more) => ({ [Symbol.toStringTag]: kind, ...more });
    const given = [
      [new Uint8Array(4), /new Blob/],
      [Buffer.alloc(4), /new Blob/],
      [new ArrayBuffer(4), /new Blob/],
      [new Uint8ClampedArray(4), /`{ data, width, height }`/],
      [Promise.resolve(), /await it/],
      [new Response(), /blob\(\)/],
      [null, /this is Null: a selector that matches nothing/],
      // Not pixels, though they have `data`.
      [element("MessageEvent", { data: new Blob() }), /MessageEvent: give its `data`/],
      [element("HTMLObjectElement", { data: "cat.svg" }), /this is HTMLObjectElement$/],
      [{ length: 1, 0: element("HTMLImageElement"), data() {} }, /this is Object: give its elements, one at a time/], // jQuery.
      [[element("HTMLVideoElement")], /this is Array: give its elements/],
      [element("NodeList", { 0: element("HTMLCanvasElement") }), /this is NodeList: give its elements/],
      [{ current: element("HTMLImageElement") }, /this is Object: give its `current`/],
      [{ value: new Blob() }, /this is Object: give its `value`/],
      [{ nativeElement: element("HTMLVideoElement") }, /this is Object: give its `nativeElement`/],
      [{ current: null }, /this is Object$/],
      [element("ImageBitmapRenderingContext"), /give its `canvas`/],
      [element("Request"), /give its `url`/],
      [element("HTMLAnchorElement"), /give its `href`/],
      [element("SVGImageElement"), /`href.baseVal`/],
      [element("DataTransfer"), /one of its `files`/],
      [new ReadableStream(), /new Response\(stream\)\.blob\(\)/],
    ];
    for (const [source, hint] of given) {
      const { code, message } = await failure(() => detector.detect(source));
      assert.equal(code, "invalid-source", message);
      assert.match(message, hint);
    }
    // A class of pixels may have a name of its own.
    assert.deepEqual(labels(await detector.detect(element("Pixels", spot()))), ["red spot"]);
  });

  test("a list of classes with a gap is refused when it is set", async () => {
    // eslint-disable-next-line no-sparse-arrays
    for (const classes of [[, "red spot"], new Array(3)]) {
      assert.throws(() => (detector.classes = classes), { code: "invalid-option" });
      assert.equal((await failure(() => Detector.load({ ...options, classes }))).code, "invalid-option");
    }
    assert.deepEqual(labels(await detector.detect(spot())), ["red spot"]);
  });

  test("pixels that are transferred while they wait are said to be gone", async () => {
    const { data, width, height } = spot();
    const call = failure(() => detector.detect({ data, width, height }));
    structuredClone(data.buffer, { transfer: [data.buffer] });
    const error = await call;
    assert.ok(error instanceof MicroYoloError, String(error));
    assert.equal(error.code, "invalid-image");
  });
});

test("a model whose buffer was transferred is told, and no other detector dies of it", async () => {
  const bystander = await Detector.load(options);
  const gone = [new Uint8Array(model).buffer, new Uint8Array(model), new DataView(new Uint8Array(model).buffer)];
  for (const one of gone) structuredClone(one, { transfer: [one.buffer ?? one] });
  for (const one of gone) {
    const { code, message } = await failure(() => Detector.load({ ...options, model: one }));
    assert.equal(code, "invalid-model", String(message));
    assert.match(message, /was transferred/);
    assert.equal((await failure(() => Detector.load({ ...options, wasm: one }))).code, "invalid-engine");
  }
  const late = new Uint8Array(model);
  const call = failure(() => Detector.load({ ...options, model: late }));
  structuredClone(late, { transfer: [late.buffer] });
  assert.equal((await call).code, "invalid-model");
  assert.deepEqual(labels(await bystander.detect(spot())), ["red spot"]);
  bystander.dispose();
});

test("what a file is that is no model is told, whether it comes as bytes, Blob or address", async () => {
  const others = {
    "\uFEFF <!doctype html>": /is a web page/,
    "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a": /git lfs pull/,
    "PK\x03\x04 archive.pt": /zip archive/,
  };
  const files = Object.entries(others).map(([text, what]) => [Buffer.from(text), what]);
  for (const [file, what] of [...files, [gzipSync(model), /unpack it/]]) {
    const shared = new Uint8Array(new SharedArrayBuffer(file.length));
    shared.set(file);
    for (const source of [file, shared, new Blob([file])]) {
      const { code, message } = await failure(() => Detector.load({ ...options, model: source }));
      assert.equal(code, "invalid-model", String(what));
      assert.match(message, what);
      assert.match(message, /^the model is/);
    }
    const address = `data:;base64,${file.toString("base64")}`;
    const { message } = await failure(() => Detector.load({ ...options, model: address }));
    assert.match(message, what.source === "is a web page" ? /^data:.* a web page/ : what);
  }
});

test("a Blob that can no longer be read is told", async () => {
  const folder = await mkdtemp(join(tmpdir(), "micro-yolo-"));
  const path = join(folder, "model.onnx");
  await writeFile(path, model);
  const blob = await openAsBlob(path);
  await writeFile(path, "another file");
  const { code } = await failure(() => Detector.load({ ...options, model: blob }));
  await rm(folder, { recursive: true });
  assert.equal(code, "invalid-model");
});

test("why an address was not fetched follows from what it is", async () => {
  for (const [address, why] of [
    ["data:;base64,@", /not intact, or forbidden by/],
    ["blob:nodedata:0", /revoked, of another site, of a file that was changed or removed, or forbidden by/],
    ["C:\\models\\own.onnx", /not fetched from a disk/],
    ["http://127.0.0.1:9/nothing", /: offline/],
    ["http://me:secret@127.0.0.1:9/own.onnx", /a user name or password/],
    ["javascript:alert(1)", /begins with javascript:$/],
  ]) {
    const { code, message } = await failure(() => Detector.load({ ...options, model: address }));
    assert.equal(code, "network", address);
    assert.match(message, why);
  }
  // As in a page that was sent by https.
  globalThis.location = { protocol: "https:", href: "https://127.0.0.1/" };
  const { message } = await failure(() => Detector.load({ ...options, model: "http://127.0.0.1:9/nothing" }));
  delete globalThis.location;
  assert.match(message, /not sent by https as this page is, offline/);
});

test("unasked, only a page starts a worker: in Bun and Deno it would keep the process alive", async () => {
  const { wasm, model } = options;
  let started = 0;
  // As Bun and Deno have one.
  globalThis.Worker = class {
    constructor() {
      started += 1;
      throw new Error("classic workers are not supported");
    }
  };
  try {
    const detector = await Detector.load({ wasm, model });
    assert.deepEqual([detector.worker, started], [false, 0]);
    detector.dispose();
    const { code, message } = await failure(() => Detector.load({ ...options, worker: true }));
    assert.deepEqual([code, started], ["worker-failed", 1]);
    assert.match(message, /\(classic workers are not supported\)/);
  } finally {
    delete globalThis.Worker;
  }
});

test("what compiles no WebAssembly is told apart: a page by its policy, or a runtime such as Cloudflare's", async () => {
  const { compile, Module } = WebAssembly;
  const refuse = () => {
    throw new WebAssembly.CompileError("Wasm code generation disallowed by embedder");
  };
  const messages = [];
  try {
    WebAssembly.compile = async () => refuse();
    WebAssembly.Module = refuse;
    for (const location of [undefined, { protocol: "https:", href: "https://127.0.0.1/" }]) {
      globalThis.location = location;
      const { code, message } = await failure(() => Detector.load({ ...options, wasm: engine }));
      assert.equal(code, "unsupported");
      messages.push(message);
    }
  } finally {
    delete globalThis.location;
    Object.assign(WebAssembly, { compile, Module });
  }
  assert.match(messages[0], /give the module as `wasm`/);
  assert.match(messages[1], /content security policy/);
});

test("files are looked for in the package, not where Vite 5 to 7 copies its modules", () => {
  for (const [copied, real] of [
    ["/node_modules/.vite/deps/wasm/a.wasm", "/node_modules/micro-yolo/wasm/a.wasm"],
    ["/base/node_modules/.vite/deps/worker.js?worker_file", "/base/node_modules/micro-yolo/worker.js?worker_file"],
    // Nuxt 4, SolidStart 1, and Vitest's browser mode.
    ["/_nuxt/@fs/home/me/node_modules/.cache/vite/client/deps/wasm/a.wasm", "/_nuxt/@fs/home/me/node_modules/micro-yolo/wasm/a.wasm"],
    ["/_build/node_modules/.vinxi/client/deps/wasm/a.wasm", "/_build/node_modules/micro-yolo/wasm/a.wasm"],
    ["/node_modules/.vite/vitest/da39a3ee/deps/wasm/a.wasm", "/node_modules/micro-yolo/wasm/a.wasm"],
    ...["/deps/wasm/a.wasm", "/node_modules/micro-yolo/wasm/a.wasm", "/wasm/a.wasm?from=/node_modules/.vite/deps/"].map((same) => [same, same]),
  ]) {
    assert.equal(located(`http://127.0.0.1${copied}`).href, `http://127.0.0.1${real}`);
  }
});

test("options that have no text, and signals that are none, are refused as others are", async () => {
  const bare = Object.create(null);
  const detector = await Detector.load(options);
  for (const wrong of [{ scoreThreshold: bare }, { maxDetections: bare }, { limits: { nodes: bare } }]) {
    assert.equal((await failure(() => Detector.load({ ...options, ...wrong }))).code, "invalid-option");
  }
  for (const signal of [false, 0, { aborted: false }]) {
    assert.equal((await failure(() => Detector.load({ ...options, signal }))).code, "invalid-option");
    assert.equal((await failure(() => detector.detect(spot(), { signal }))).code, "invalid-option");
  }
  for (const width of [bare, Symbol("width")]) {
    assert.equal((await failure(() => detector.detect({ ...spot(), width }))).code, "invalid-image");
  }
  detector.dispose();
});

test("engine and model of another realm, or part of a larger buffer", async () => {
  const inRealm = vm.createContext({ bytes: engine });
  const module = await vm.runInContext("WebAssembly.compile(new Uint8Array(bytes))", inRealm);
  assert.ok(!(module instanceof WebAssembly.Module));
  const large = Buffer.alloc(model.length + 100);
  large.set(model, 60);
  const copy = () => new foreign.Uint8Array(model);
  const loads = {
    "module": { wasm: module },
    "model as array": { model: copy() },
    "model as buffer": { model: copy().buffer },
    "model as part": { model: large.subarray(60, 60 + model.length) },
    "model as view": { model: new DataView(large.buffer, large.byteOffset + 60, model.length) },
    "model as Blob": { model: new Blob([model]) },
    "classes": { classes: foreign.Array.of("red spot") },
  };
  for (const [kind, load] of Object.entries(loads)) {
    const detector = await Detector.load({ ...options, ...load });
    assert.deepEqual(labels(await detector.detect(spot())), ["red spot"], kind);
    detector.dispose();
  }
});

test("engine and model in memory whose size can change, with a checksum", async () => {
  const sha256 = createHash("sha256").update(model).digest("hex");
  const changeable = (Kind, bytes) => {
    const buffer = new Kind(bytes.length, { maxByteLength: 2 * bytes.length });
    new Uint8Array(buffer).set(bytes);
    return buffer;
  };
  // The browsers' own functions refuse them, whichever runtime this is.
  const { digest } = crypto.subtle;
  const { compile } = WebAssembly;
  const refuse = ({ buffer }) => {
    if (!(buffer instanceof ArrayBuffer) || buffer.resizable) throw new TypeError("must not be resizable");
  };
  crypto.subtle.digest = (name, bytes) => (refuse(bytes), digest.call(crypto.subtle, name, bytes));
  WebAssembly.compile = (bytes) => (refuse(bytes), compile(bytes));
  try {
    for (const Kind of [ArrayBuffer, SharedArrayBuffer]) {
      const load = { wasm: changeable(Kind, engine), model: changeable(Kind, model), sha256 };
      const detector = await Detector.load({ ...options, ...load });
      assert.deepEqual(labels(await detector.detect(spot())), ["red spot"], Kind.name);
      detector.dispose();
    }
  } finally {
    crypto.subtle.digest = digest;
    WebAssembly.compile = compile;
  }
});

test("what is no file and no address is named, with what to give instead", async () => {
  const wrong = [
    ["", /is an empty address; leave it out/],
    [" ", /is an empty address/],
    [5, /not 5$/],
    [new Response(), /not Response: give `await response.arrayBuffer\(\)`/],
    [new Response("x").body, /not ReadableStream: give /],
  ];
  for (const [given, hint] of wrong) {
    for (const option of ["model", "wasm"]) {
      const { code, message } = await failure(() => Detector.load({ ...options, [option]: given }));
      assert.equal(code, "invalid-option");
      assert.ok(message.startsWith(`\`${option}\` `), message);
      assert.match(message, hint);
    }
  }
});

test("what is no plain object is refused as options, and is not a list of none", async () => {
  const detector = await Detector.load(options);
  const { signal } = new AbortController();
  const wrong = [new URL("http://127.0.0.1/own.onnx"), new Blob([model]), model.buffer, new Map([["model", model]]), Promise.resolve(options), [], signal];
  for (const one of wrong) {
    for (const call of [() => Detector.load(one), () => detector.detect(spot(), one), () => Detector.load({ ...options, limits: one })]) {
      const { code, message } = (await failure(call)) ?? {};
      assert.equal(code, "invalid-option", String(one));
      assert.match(message, /must be a plain object/);
    }
  }
  for (const plain of [vm.runInNewContext("({})"), Object.create(null)]) {
    const loaded = await Detector.load(Object.assign(plain, options));
    assert.deepEqual(labels(await loaded.detect(spot(), reactive({ transfer: false }))), ["red spot"]);
    loaded.dispose();
  }
  detector.dispose();
});

test("a URL of another realm is a URL", async () => {
  // As of an iframe: `instanceof URL` is false.
  class URL {
    [Symbol.toStringTag] = "URL";
    toString = () => "http://127.0.0.1:9/nothing";
  }
  const address = new URL();
  assert.equal((await failure(() => Detector.load({ ...options, model: address }))).code, "network");
  assert.equal((await failure(() => Detector.load({ ...options, wasm: address }))).code, "network");
  const detector = await Detector.load(options);
  // Node has no pictures to make of what it would fetch; what is no address is an `invalid-source`.
  assert.equal((await failure(() => detector.detect(address))).code, "unsupported");
  detector.dispose();
});

/** A proxy as frameworks make them: what is got through it is wrapped in the same way. */
const wrapped = (target) =>
  new Proxy(target, {
    get(target, name, receiver) {
      const value = Reflect.get(target, name, receiver);
      return value && typeof value === "object" && !ArrayBuffer.isView(value) ? wrapped(value) : value;
    },
  });

for (const [name, wrap] of Object.entries({
  "Vue's ref": (detector) => ref(detector).value,
  "Vue's reactive": (detector) => reactive({ inner: { detector } }).inner.detector,
  "Vue's readonly": (detector) => readonly({ detector }).detector,
  "a plain Proxy": (detector) => new Proxy(detector, {}),
  "a deep Proxy": wrapped,
  "an object made of it": (detector) => Object.create(detector),
})) {
  test(`a detector behind ${name} does all that it does by itself`, async () => {
    const real = await Detector.load(options);
    const detector = wrap(real);
    assert.notEqual(detector, real, "it is behind something");
    assert.deepEqual([...detector.labels], ["red spot"]);
    assert.deepEqual([detector.threads, detector.inputSize.width, detector.build], [1, 160, "simd128"]);
    assert.deepEqual(labels(await detector.detect(spot())), ["red spot"]);
    assert.equal((await failure(() => detector.watch({}))).code, "invalid-source");
    if (name !== "Vue's readonly") {
      detector.scoreThreshold = 0.95; // Above what the model ever says.
      detector.classes = ["red spot"];
      assert.deepEqual([real.scoreThreshold, real.classes], [0.95, ["red spot"]]);
      assert.deepEqual(await detector.detect(spot()), []);
      assert.equal((await failure(() => (detector.classes = ["dog"]))).code, "invalid-option");
      assert.equal((await failure(() => (detector.iouThreshold = 2))).code, "invalid-option");
      detector.maxDetections = 3;
      assert.deepEqual([detector.maxDetections, detector.iouThreshold], [3, 0.45]);
    }
    detector.dispose();
    assert.equal((await failure(() => real.detect(spot()))).code, "disposed");
    assert.equal((await failure(() => detector.detect(spot()))).code, "disposed");
    detector.dispose();
  });
}

test("options and pictures inside Vue's reactive objects", async () => {
  const state = reactive({ options: { ...options, classes: ["red spot"], inputSize: { width: 160, height: 160 } }, picture: spot() });
  const detector = await Detector.load(state.options);
  assert.deepEqual(labels(await detector.detect(state.picture)), ["red spot"]);
  detector.dispose();
});
