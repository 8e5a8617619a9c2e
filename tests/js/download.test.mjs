// Downloads are held to a size, a model's to `limits.memoryBytes`: an answer of gigabytes, or one without end, must not fill
// the memory.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile, readdir } from "node:fs/promises";
import { createServer } from "node:http";
import { after, before, beforeEach, describe, test as untimed } from "node:test";
import { gzipSync } from "node:zlib";
import { Readable } from "node:stream";
import { Detector, MicroYoloError } from "../../pkg/index.js";

/** Each with a limit of its own: what this file is about does not end where it is broken. */
const test = (name, work) => untimed(name, { timeout: 120_000 }, work);
const at = (path) => new URL(`../../${path}`, import.meta.url);
const MB = 1e6;

let wasm;
let model;
let server;
let url;
/** What the server saw of each request: bytes that it could send, and that its connection ended. */
let requests;

/** Sends zeros until the other side has had enough. */
function* zeros() {
  const chunk = new Uint8Array(64 * 1024);
  for (;;) yield chunk;
}

/** A WebAssembly module of one section, without end: what a compiler that takes bytes as they come is content with. */
function* endlessModule() {
  yield new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 0, 0x80, 0x94, 0xeb, 0xdc, 0x03, 1, 97]); // A custom section of 1e9 bytes.
  yield* zeros();
}

const answers = {
  /** Says how long it is, and sends little of it. */
  "/long"(response) {
    response.writeHead(200, { "content-length": 2 ** 30 + 1 });
    response.write(new Uint8Array(1000));
  },
  "/endless"(response) {
    Readable.from(zeros()).pipe(response.writeHead(200));
  },
  "/endless.wasm"(response) {
    Readable.from(endlessModule()).pipe(response.writeHead(200));
  },
  /** A thousandth of its size on the way. */
  "/packed"(response) {
    const part = gzipSync(new Uint8Array(MB)); // Parts one after the other are unpacked as one file.
    const parts = (function* () {
      for (;;) yield part;
    })();
    Readable.from(parts).pipe(response.writeHead(200, { "content-encoding": "gzip" }));
  },
  "/cut"(response) {
    response.writeHead(200, { "content-length": 2 ** 40 });
    response.write(new Uint8Array(1000));
    setTimeout(() => response.destroy(), 50);
  },
  "/cut-short"(response) {
    response.writeHead(200, { "content-length": 5000 });
    response.write(new Uint8Array(1000));
    setTimeout(() => response.destroy(), 50);
  },
  "/page"(response) {
    response.writeHead(200, { "content-type": "text/html; charset=utf-8" }).end("<!doctype html><title>app</title>");
  },
  "/model"(response) {
    response.writeHead(200, { "content-length": model.length, "content-type": "image/x-test" });
    response.write(model.subarray(0, 1000));
    setTimeout(() => response.end(model.subarray(1000)), 50);
  },
};

before(async () => {
  const files = ["pkg/wasm/micro_yolo_full_bg.wasm", "tests/e2e/fixtures/red-spot.onnx"].map((path) => readFile(at(path)));
  const [engine, onnx] = await Promise.all(files);
  wasm = await WebAssembly.compile(engine);
  model = onnx;
  server = createServer((request, response) => {
    const seen = { socket: request.socket, closed: new Promise((resolve) => response.on("close", resolve)) };
    requests.push(seen);
    response.on("error", () => {});
    answers[request.url](response);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${server.address().port}`;
});

beforeEach(() => (requests = []));

after(() => {
  server.closeAllConnections();
  server.close();
});

const load = (model, limits, more) => Detector.load({ wasm, model, worker: false, limits, ...more });

const failure = (promise) =>
  promise.then(
    () => assert.fail("it loads"),
    (error) => (error instanceof MicroYoloError ? error : assert.fail(error)),
  );

test("a model that says that it is too long is refused before its bytes come", async () => {
  const { code, message } = await failure(load(`${url}/long`));
  assert.equal(code, "model-too-large");
  assert.match(message, /^http:.*\/long has more than the 1073741824 bytes .*`limits`/);
  await requests[0].closed;
});

test("a model without end is left where the limit is", async () => {
  const { code } = await failure(load(`${url}/endless`, { memoryBytes: 5 * MB }));
  assert.equal(code, "model-too-large");
  await requests[0].closed;
  const { bytesWritten } = requests[0].socket;
  assert.ok(bytesWritten < 50 * MB, `${bytesWritten} bytes were sent`);
});

test("of a compressed model the bytes count that are unpacked", async () => {
  const seen = [];
  const { code } = await failure(load(`${url}/packed`, { memoryBytes: 5 * MB }, { onProgress: ({ loaded }) => seen.push(loaded) }));
  assert.equal(code, "model-too-large");
  assert.ok(Math.max(...seen) < 10 * MB, String(Math.max(...seen)));
  await requests[0].closed;
});

test("of two who wait for one download, each has its own limit", async () => {
  const [refused, detector] = await Promise.all([failure(load(`${url}/model`, { memoryBytes: 2000 })), load(`${url}/model`)]);
  assert.equal(refused.code, "model-too-large");
  assert.deepEqual(detector.labels, ["red spot"]);
  detector.dispose();
  assert.equal(requests.length, 1);
});

test("what is refused once is loaded with a higher limit", async () => {
  assert.equal((await failure(load(`${url}/model`, { memoryBytes: 2000 }))).code, "model-too-large");
  (await load(`${url}/model`)).dispose();
  assert.equal(requests.length, 2);
});

test("Infinity is no limit", async () => {
  const { code } = await failure(load(`${url}/cut`, { memoryBytes: Infinity }));
  assert.equal(code, "network");
});

test("bytes and blobs are refused before they are copied", async () => {
  for (const given of [model, model.buffer.slice(model.byteOffset, model.byteOffset + model.length), new Blob([model])]) {
    const { code, message } = await failure(load(given, { memoryBytes: 2000 }));
    assert.equal(code, "model-too-large");
    assert.match(message, /^the model has more than the 2000 bytes/);
  }
});

test("an engine that is longer than any of the package is left", async () => {
  for (const [path, most] of [["/long", 1], ["/endless.wasm", 100 * MB]]) {
    const { code, message } = await failure(Detector.load({ wasm: `${url}${path}`, model, worker: false }));
    assert.equal(code, "invalid-engine");
    assert.match(message, new RegExp(`^http:.*${path} is not the WebAssembly module .* more than 67108864 bytes$`));
    const { socket, closed } = requests.pop();
    await closed;
    assert.ok(socket.bytesWritten < most + 2000, `${path}: ${socket.bytesWritten} bytes were sent`);
  }
});

test("an engine that is none by its first bytes is left, though it has no end", async () => {
  const { code } = await failure(Detector.load({ wasm: `${url}/endless`, model, worker: false }));
  assert.equal(code, "invalid-engine");
  await requests[0].closed;
});

describe("a picture by its address", () => {
  /** Of the Blobs that were to be decoded. */
  const seen = [];
  let detector;
  before(async () => {
    // Node has none; what comes after it does not matter here.
    globalThis.createImageBitmap = async (blob) => {
      seen.push({ type: blob.type, bytes: new Uint8Array(await blob.arrayBuffer()) });
      throw new Error("not decoded");
    };
    detector = await load(model);
  });
  after(() => {
    delete globalThis.createImageBitmap;
    detector.dispose();
  });

  test("is refused where it says that it is too long, or has no end", async () => {
    for (const [path, most] of [["/long", 1], ["/endless", 300 * MB]]) {
      const { code, message } = await failure(detector.detect(`${url}${path}`));
      assert.equal(code, "image-too-large");
      assert.match(message, new RegExp(`^http:.*${path} has more than the 268435456 bytes .* give the Blob$`));
      const { socket, closed } = requests.pop();
      await closed;
      assert.ok(socket.bytesWritten < most + 2000, `${path}: ${socket.bytesWritten} bytes were sent`);
    }
    assert.equal(seen.length, 0);
  });

  test("of the right length comes whole, with its type", async () => {
    assert.equal((await failure(detector.detect(`${url}/model`))).code, "invalid-image");
    const [{ type, bytes }] = seen;
    assert.equal(type, "image/x-test");
    assert.deepEqual(Buffer.from(bytes), model);
  });

  test("is given up with the call", async () => {
    const stop = new AbortController();
    const given = failure(detector.detect(`${url}/endless`, { signal: stop.signal }));
    while (!requests.length) await new Promise((resolve) => setTimeout(resolve, 5));
    stop.abort();
    assert.equal((await given).code, "aborted");
    await requests[0].closed;
  });

  test("in whose place a web page comes is named with its address", async () => {
    const page = await failure(detector.detect(`${url}/page`));
    assert.equal(page.code, "invalid-image");
    assert.match(page.message, /^http:.*\/page was answered with a web page instead of a picture/);
    assert.match((await failure(detector.detect(`${url}/model`))).message, /decode the picture http:.*\/model \(image\/x-test\)$/);
  });

  test("that is cut off is said to be", async () => {
    assert.equal((await failure(detector.detect(`${url}/cut-short`))).code, "network");
  });
});

test("a model with another SHA-256 than was given is refused", async () => {
  const sum = createHash("sha256").update(model).digest("hex");
  for (const given of [`${url}/model`, model]) {
    (await load(given, undefined, { sha256: sum.toUpperCase() })).dispose();
    const { code, message } = await failure(load(given, undefined, { sha256: sum.replace(/^./, (digit) => (digit === "0" ? "1" : "0")) }));
    assert.equal(code, "invalid-model");
    assert.match(message, new RegExp(sum));
  }
  for (const sha256 of [sum.slice(1), `sha256-${sum}`, 5]) {
    assert.equal((await failure(load(model, undefined, { sha256 }))).code, "invalid-option");
  }
});

test("models/SHA256SUMS has every model", async () => {
  const lines = (await readFile(at("models/SHA256SUMS"), "utf8")).trimEnd().split("\n");
  const listed = Object.fromEntries(lines.map((line) => line.split("  ").reverse()));
  const files = (await readdir(at("models"))).filter((name) => /\.(onnx|safetensors)$/.test(name));
  assert.deepEqual(Object.keys(listed).sort(), files.sort());
  for (const name of files) {
    const sum = createHash("sha256").update(await readFile(at(`models/${name}`)));
    assert.equal(listed[name], sum.digest("hex"), `${name}: cd models && sha256sum *.onnx *.safetensors > SHA256SUMS`);
  }
});
