// The package in Node, where there are no pictures: engine, settings and memory.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { before, test } from "node:test";
import { Detector, MicroYoloError } from "../../pkg/index.js";

const at = (path) => new URL(`../../${path}`, import.meta.url);

/** Grows only; read after the work is done. */
let memory;
let options;

before(async () => {
  // The instance's memory is nobody's business in the package, so the test takes it where it is made.
  const instantiate = WebAssembly.instantiate;
  WebAssembly.instantiate = async (...values) => {
    const result = await instantiate(...values);
    memory = (result.instance ?? result).exports.memory;
    return result;
  };
  const [wasm, model] = await Promise.all(
    ["pkg/wasm/micro_yolo_full_bg.wasm", "tests/e2e/fixtures/red-spot.onnx"].map((path) => readFile(at(path))),
  );
  options = { wasm: await WebAssembly.compile(wasm), model, worker: false };
});

function spot(width, height, { x, y, w, h }) {
  const data = new Uint8Array(width * height * 4).fill(255);
  for (let pixel = 0; pixel < width * height; pixel += 1) {
    const [column, row] = [pixel % width, Math.floor(pixel / width)];
    const red = column >= x && column < x + w && row >= y && row < y + h;
    data.set(red ? [255, 0, 0] : [110, 120, 130], pixel * 4);
  }
  return { data, width, height };
}

const code = (work) =>
  Promise.resolve()
    .then(work)
    .then(
      () => "fine",
      (error) => (error instanceof MicroYoloError ? error.code : error),
    );

test("the box is where the rectangle is", async () => {
  const detector = await Detector.load(options);
  const [{ label, classId, box, trackId }] = await detector.detect(spot(320, 240, { x: 40, y: 60, w: 120, h: 80 }));
  assert.deepEqual([label, classId, trackId], ["red spot", 0, undefined]);
  for (const [name, expected] of Object.entries({ x: 40, y: 60, width: 120, height: 80 })) {
    assert.ok(Math.abs(box[name] - expected) < 2, `${name} ${box[name]}`);
  }
  assert.deepEqual(detector.inputSize, { width: 160, height: 160 });
  detector.dispose();
});

test("the time of a picture is told in parts", async () => {
  const detector = await Detector.load(options);
  assert.equal(detector.timing, undefined);
  const frame = spot(320, 240, { x: 40, y: 60, w: 120, h: 80 });
  /** Of each call, the share of its time that the parts tell, and the part of the boxes in that of the network. */
  const [told, ofBoxes] = [[], []];
  for (let number = 0; number < 20; number += 1) {
    const before = performance.now();
    await detector.detect(frame);
    const all = performance.now() - before;
    const { pixels, network, boxes } = detector.timing;
    assert.ok(pixels >= 0 && boxes >= 0 && network > 0, JSON.stringify(detector.timing));
    assert.ok(pixels + network + boxes <= all, JSON.stringify({ ...detector.timing, all }));
    told.push((pixels + network + boxes) / all);
    ofBoxes.push(boxes / network);
  }
  // Of the calls that nothing else on the machine has delayed.
  assert.ok(Math.max(...told) > 0.5, `at most ${Math.max(...told)} of a call is told`);
  assert.ok(Math.max(...ofBoxes) > 0 && Math.min(...ofBoxes) < 1, String(ofBoxes));
  detector.dispose();
});

test("memory stays flat over thousands of frames", async () => {
  const detector = await Detector.load(options);
  const frame = spot(640, 480, { x: 40, y: 60, w: 120, h: 80 });
  const settle = 20;
  let settled;
  for (let count = 0; count < 3000; count += 1) {
    if (count === settle) settled = memory.buffer.byteLength;
    detector.scoreThreshold = 0.2 + (count % 10) / 100;
    await detector.detect(frame);
  }
  assert.equal(memory.buffer.byteLength, settled);
  detector.dispose();
});

test("memory stays flat over loads and disposals, and over refused models", async () => {
  const cycle = async () => {
    const detector = await Detector.load(options);
    await detector.detect(spot(64, 64, { x: 1, y: 1, w: 20, h: 20 }));
    detector.dispose();
    assert.equal(await code(() => Detector.load({ ...options, model: options.model.subarray(0, 2000) })), "invalid-model");
    assert.equal(await code(() => Detector.load({ ...options, classes: ["unicorn"] })), "invalid-option");
  };
  for (let count = 0; count < 10; count += 1) await cycle();
  const settled = memory.buffer.byteLength;
  for (let count = 0; count < 40; count += 1) await cycle();
  assert.equal(memory.buffer.byteLength, settled);
});

test("any mutated model is refused or runs", async () => {
  let seed = 1;
  const random = (below) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0; // Numerical Recipes' generator: the same run each time.
    return seed % below;
  };
  const outcomes = {};
  for (let count = 0; count < 600; count += 1) {
    const model = Uint8Array.from(options.model);
    for (let flips = 1 + random(8); flips > 0; flips -= 1) model[random(model.length)] = random(256);
    const outcome = await code(async () => {
      const detector = await Detector.load({ ...options, model });
      try {
        await detector.detect(spot(50, 40, { x: 10, y: 10, w: 20, h: 20 }));
      } finally {
        detector.dispose();
      }
    });
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    assert.ok(
      ["fine", "invalid-model", "unsupported-model", "model-too-large", "unsupported-operator", "inference-failed"].includes(outcome),
      `mutation ${count}: ${outcome}`,
    );
  }
  assert.ok(outcomes.fine > 0 && outcomes["invalid-model"] > 0, JSON.stringify(outcomes));
});

test("a model beyond the limits is refused before it takes the memory, and says what it needs", async () => {
  const refused = async (limits, model = options.model) => {
    const error = await Detector.load({ ...options, model, limits }).catch((error) => error);
    assert.equal(error.code, "model-too-large", String(error));
    return error.message;
  };
  assert.match(await refused({ memoryBytes: 50_000 }), /MB of memory.* and the limit is 0; the option `limits` raises it/);
  assert.match(await refused({ nodes: 3 }), /nodes and stored tensors, and the limit is 3;/);
  assert.match(await refused({ macs: 1000 }), /million multiply-accumulates a picture/);
  for (const limits of [undefined, {}, { memoryBytes: undefined }, { memoryBytes: Infinity, nodes: Infinity, macs: Infinity }]) {
    (await Detector.load({ ...options, limits })).dispose();
  }
  for (const limits of [null, 5, { memoryBytes: NaN }, { nodes: -1 }, { macs: "1e9" }, { memory: 5 }]) {
    assert.equal(await code(() => Detector.load({ ...options, limits })), "invalid-option", JSON.stringify(limits));
  }

  // The factors of a resize, 2 in the file, become 4096.
  const model = Uint8Array.from(await readFile(at("tests/fixtures/forms/class-rows.onnx")));
  const bytes = (factor) => new Uint8Array(Float32Array.of(1, 1, factor, factor).buffer);
  const place = Buffer.from(model).indexOf(bytes(2));
  assert.ok(place > 0);
  model.set(bytes(4096), place);
  (await Detector.load({ ...options, model: await readFile(at("tests/fixtures/forms/class-rows.onnx")) })).dispose();
  const before = memory.buffer.byteLength;
  assert.match(await refused(undefined, model), /^the model needs \d{4,} MB of memory up to ".*Resize/);
  assert.ok(memory.buffer.byteLength - before < 2 ** 20, `${memory.buffer.byteLength - before} bytes more`);
});

test("the nodes that the engine leaves to tract are told, with the reason", async () => {
  const detector = await Detector.load({ ...options, model: await readFile(at("tests/fixtures/forms/class-rows.onnx")) });
  assert.ok(detector.foreign.length > 0);
  for (const { name, operator, reason } of detector.foreign) {
    assert.ok(name && /^[A-Z][A-Za-z]+$/.test(operator) && / \(inputs .*\)$/.test(reason), `${name} ${operator} ${reason}`);
  }
  assert.ok(Object.isFrozen(detector.foreign) && Object.isFrozen(detector.foreign[0]));
  detector.dispose();

  const own = await Detector.load({ ...options, model: await readFile(at("models/micro-yolo-s-int8.onnx")) });
  assert.deepEqual(own.foreign, []);
  own.dispose();
});

test("a model in half precision is read, by the full engine", async () => {
  const model = await readFile(at("tests/fixtures/half.onnx"));
  const detector = await Detector.load({ ...options, model, scoreThreshold: 0.2 });
  const objects = await detector.detect(spot(96, 96, { x: 10, y: 10, w: 40, h: 40 }));
  assert.ok(objects.length > 0 && objects.every(({ score }) => score >= 0.2 && score <= 1));
  detector.dispose();
  const wasm = await readFile(at("pkg/wasm/micro_yolo_bg.wasm"));
  assert.equal(await code(() => Detector.load({ wasm, model, worker: false })), "needs-tract");
});

test("an input size that is none is named, and so is a path where an address is wanted", async () => {
  const message = (more) => Detector.load({ ...options, ...more }).then(() => "fine", ({ message }) => message);
  assert.equal(await message({ inputSize: "320" }), '`inputSize` must be a number or { width, height }, not "320"');
  assert.equal(await message({ inputSize: null }), "`inputSize` must be a number or { width, height }, not null");
  assert.equal(await message({ inputSize: { width: 64 } }), "`inputSize.height` must be a whole number above 0, not undefined");
  assert.equal(await message({ inputSize: [64, 64] }), "`inputSize` must be a number or { width, height }, not Array");
  assert.equal(await message({ model: "yolo.onnx" }), "`model` is not a URL: yolo.onnx; outside a browser give the bytes of a file");
});

test("`maxDetections` may be Infinity, and is refused where it is no number of objects", async () => {
  // Every place of the network is an object, and none hides another.
  const all = { model: await readFile(at("models/micro-yolo-s-int8.onnx")), inputSize: 320, scoreThreshold: 0, iouThreshold: 1 };
  const picture = spot(320, 240, { x: 40, y: 60, w: 120, h: 80 });
  const detector = await Detector.load({ ...options, ...all });
  const count = async () => (await detector.detect(picture)).length;
  assert.equal(await count(), 100);
  detector.maxDetections = Infinity;
  assert.equal(detector.maxDetections, Infinity);
  const most = await count();
  assert.ok(most > 100, String(most));
  detector.maxDetections = 3;
  assert.equal(await count(), 3);
  for (const wrong of [0, -1, 1.5, NaN, -Infinity, 2 ** 32, "Infinity", null]) {
    const message = `\`maxDetections\` must be a whole number above 0, or Infinity, not ${typeof wrong === "string" ? `"${wrong}"` : wrong}`;
    assert.throws(() => (detector.maxDetections = wrong), { code: "invalid-option", message });
  }
  assert.equal(await count(), 3, "what is refused changes nothing");
  detector.dispose();
  const loaded = await Detector.load({ ...options, ...all, maxDetections: Infinity });
  assert.equal((await loaded.detect(picture)).length, most);
  loaded.dispose();
  assert.equal(await code(() => Detector.load({ ...options, threads: Infinity })), "invalid-option");
  assert.equal(await code(() => Detector.load({ ...options, inputSize: Infinity })), "invalid-option");
});

test("a value of a wrong type is not told as one of the right type", async () => {
  const message = (more) => Detector.load({ ...options, ...more }).then(() => "fine", ({ message }) => message);
  for (const name of ["scoreThreshold", "iouThreshold"]) {
    for (const [wrong, told] of [["0.5", '"0.5"'], [[0.5], "Array"], [1n, "1n"], [{}, "Object"], [() => 1, "Function"], [NaN, "NaN"]]) {
      assert.equal(await message({ [name]: wrong }), `\`${name}\` must be a number from 0 to 1, not ${told}`);
    }
  }
  assert.equal(await message({ threads: "2" }), '`threads` must be a whole number above 0, not "2"');
  assert.equal(await message({ worker: "true" }), '`worker` must be a boolean, not "true"');
  assert.match(await message({ limits: { nodes: "9" } }), /not "9"$/);
  const detector = await Detector.load(options);
  const { message: ofPixels } = await detector.detect({ data: new Uint8Array(4), width: "1", height: 1 }).catch((error) => error);
  assert.equal(ofPixels, 'width and height must be whole numbers above 0, not "1" x 1');
  detector.dispose();
});

test("a module that is no engine is refused, and does no harm to the next load", async () => {
  const bytes = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0);
  const [plain, own] = await Promise.all(["pkg/wasm/micro_yolo_bg.wasm", "models/micro-yolo-s-int8.onnx"].map((path) => readFile(at(path))));
  // As a page has it, where nothing was loaded before.
  const { Detector: Fresh } = await import("../../pkg/small.js");
  for (const _ of [1, 2]) {
    for (const wasm of [bytes, await WebAssembly.compile(bytes)]) {
      const { code, message } = await Fresh.load({ wasm, model: own, worker: false }).catch((error) => error);
      assert.equal(code, "invalid-engine", message);
      assert.match(message, /not the WebAssembly module of this package/);
    }
    const detector = await Fresh.load({ wasm: plain, model: own, worker: false });
    assert.equal(detector.build, "simd128");
    detector.dispose();
  }
});

test("an `onProgress` that is no function is refused, one left out is not", async () => {
  for (const wrong of [0, "", false, {}]) assert.equal(await code(() => Detector.load({ ...options, onProgress: wrong })), "invalid-option");
  for (const none of [undefined, null]) assert.equal(await code(() => Detector.load({ ...options, onProgress: none })), "fine");
});

test("`classes` cannot be changed from within", async () => {
  const classes = ["red spot"];
  const detector = await Detector.load({ ...options, classes });
  assert.throws(() => detector.classes.push("unicorn"), TypeError);
  classes.pop();
  detector.classes = detector.classes.concat(0);
  assert.deepEqual(detector.classes, ["red spot", 0]);
  assert.throws(() => (detector.classes[0] = "unicorn"), TypeError);
  assert.equal((await detector.detect(spot(320, 240, { x: 40, y: 60, w: 120, h: 80 }))).length, 1);
  detector.dispose();
});

test("lists of classes that read alike are told apart", async () => {
  // The names of a model, of the same length with the spaces: a comma in one, and the number of another class.
  const model = Uint8Array.from(await readFile(at("models/micro-yolo-s-int8.onnx")));
  const renamed = { "'person'": "'a,b'", "'bicycle'": "'a'", "'car'": "'b'", "'airplane'": "'2'" };
  for (const [name, other] of Object.entries(renamed)) {
    const place = Buffer.from(model).indexOf(name);
    assert.ok(place > 0, name);
    model.set(Buffer.from(other.padEnd(name.length)), place);
  }
  const detector = await Detector.load({ ...options, model, scoreThreshold: 0, iouThreshold: 1, maxDetections: Infinity });
  const seen = async (...classes) => {
    detector.classes = classes;
    const objects = await detector.detect(spot(64, 64, { x: 1, y: 1, w: 20, h: 20 }));
    return [...new Set(objects.map(({ classId }) => classId))].sort();
  };
  assert.deepEqual(await seen("a,b"), [0]);
  assert.deepEqual(await seen("a", "b"), [1, 2]);
  assert.deepEqual(await seen("2"), [4]);
  assert.deepEqual(await seen(2), [2]);
  detector.dispose();
});

test("no classes are none", async () => {
  const detector = await Detector.load({ ...options, classes: [] });
  const picture = spot(320, 240, { x: 40, y: 60, w: 120, h: 80 });
  assert.deepEqual(await detector.detect(picture), []);
  detector.classes = undefined;
  assert.equal((await detector.detect(picture)).length, 1);
  detector.dispose();
});
