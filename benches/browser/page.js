// In the page: loads runtimes, lets them take turns, and gives back figures. run.mjs calls `measure`, `cold`, `several`,
// `profile`.
import { hasRelaxedSimd } from "/pkg/platform.js";

const bytes = async (url) => new Uint8Array(await (await fetch(url)).arrayBuffer());
const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

/** A picture with structure: stripes and blotches in all colours. */
function picture(size) {
  const rgba = new Uint8Array(size * size * 4);
  for (let i = 0; i < size * size; i++) {
    const [x, y] = [i % size, Math.floor(i / size)];
    rgba[4 * i] = 127 + 120 * Math.sin(x / 9);
    rgba[4 * i + 1] = 127 + 120 * Math.sin((x + y) / 23);
    rgba[4 * i + 2] = 127 + 120 * Math.cos(y / 5);
    rgba[4 * i + 3] = 255;
  }
  return rgba;
}

/** Our modules with their glue, the plain engine and the full one. Imported under another address a glue is another instance. */
const BUILDS = {
  relaxed: [
    ["micro_yolo.js", "micro_yolo_relaxed_bg.wasm"],
    ["micro_yolo_full.js", "micro_yolo_full_relaxed_bg.wasm"],
  ],
  simd128: [
    ["micro_yolo.js", "micro_yolo_bg.wasm"],
    ["micro_yolo_full.js", "micro_yolo_full_bg.wasm"],
  ],
};

/** Loads a build of ours for one model: a function that takes a frame's time. */
async function ours(folder, build, model, size) {
  let engine;
  // As the package does it: the plain engine first, the full one for a model that is more than that runs.
  for (const [name, module] of folder === "ours" ? BUILDS[build] : BUILDS[build].slice(1)) {
    const glue = await import(`/${folder}/${name}?${build}`);
    await glue.default({ module_or_path: `/${folder}/${module}` });
    try {
      engine = new glue.Engine(model, size, size);
      break;
    } catch (error) {
      if (error.code !== "needs-tract") throw error;
    }
  }
  // Models with random weights see objects everywhere; suppressing thousands is not what a frame costs.
  engine.setScoreThreshold(1);
  const rgba = picture(size);
  return () => engine.detect(rgba, size, size, false);
}

async function onnxruntime(model, size, threads = 1) {
  // Under another address it is another instance: threads are set once for each.
  const ort = await import(`/ort/ort.wasm.min.mjs?${threads}`);
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = "/ort/";
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  const rgba = picture(size);
  const planes = new Float32Array(3 * size * size);
  for (let i = 0; i < size * size; i++) for (let c = 0; c < 3; c++) planes[c * size * size + i] = rgba[4 * i + c] / 255;
  const tensor = new ort.Tensor("float32", planes, [1, 3, size, size]);
  return () => session.run({ [session.inputNames[0]]: tensor });
}

/** What can run a job's models: by name, the address of the model and what loads it. */
function runtimes({ float, int8, size, simd128 }) {
  if (!hasRelaxedSimd()) throw new Error("this browser has no relaxed SIMD");
  return {
    "onnxruntime-web f32": [float, (model) => onnxruntime(model, size)],
    "micro-yolo f32": [float, (model) => ours("ours", "relaxed", model, size)],
    ...(simd128 && { "micro-yolo f32, simd128": [float, (model) => ours("ours", "simd128", model, size)] }),
    ...(int8 && {
      "onnxruntime-web int8": [int8, (model) => onnxruntime(model, size)],
      "micro-yolo int8": [int8, (model) => ours("ours", "relaxed", model, size)],
      ...(simd128 && { "micro-yolo int8, simd128": [int8, (model) => ours("ours", "simd128", model, size)] }),
    }),
  };
}

/** The package's detector, in its worker. */
async function detector(model, size, threads) {
  const { Detector } = await import("/pkg/index.js");
  const detector = await Detector.load({ model, inputSize: size, threads, scoreThreshold: 1 });
  if (detector.threads !== threads) throw new Error(`${detector.threads} threads instead of ${threads}`);
  const source = { data: picture(size), width: size, height: size };
  return () => detector.detect(source);
}

/** Steady frames of all runtimes in turn: by name, median and best in milliseconds. */
globalThis.measure = async (job) => {
  const frames = {};
  for (const [name, [url, load]] of Object.entries(runtimes(job))) {
    frames[name] = { run: await load(await bytes(url)), times: [] };
  }
  await takeTurns(frames, job.rounds);
  const figures = ([name, { times }]) => [name, { frame: median(times), best: Math.min(...times) }];
  return Object.fromEntries(Object.entries(frames).map(figures));
};

/** Medians of steady frames on one thread and on several: by name, both in milliseconds. */
globalThis.several = async ({ float, int8, size, threads, rounds }) => {
  const [floats, whole] = [await bytes(float), await bytes(int8)];
  const kinds = {
    "onnxruntime-web f32": (threads) => onnxruntime(floats, size, threads),
    "micro-yolo f32": (threads) => detector(floats, size, threads),
    "micro-yolo int8": (threads) => detector(whole, size, threads),
  };
  const frames = {};
  for (const [name, load] of Object.entries(kinds)) {
    for (const count of [1, threads]) frames[`${name}/${count}`] = { run: await load(count), times: [] };
  }
  await takeTurns(frames, rounds);
  const of = (name, count) => median(frames[`${name}/${count}`].times);
  return Object.fromEntries(Object.keys(kinds).map((name) => [name, [of(name, 1), of(name, threads)]]));
};

/** Runs all in turn, round after round, and keeps their times. */
async function takeTurns(frames, rounds) {
  // The compiler makes hot code better in the background; a few rounds until it is done.
  for (let round = -10; round < rounds; round++) {
    for (const { run, times } of Object.values(frames)) {
      const start = performance.now();
      await run();
      if (round >= 0) times.push(performance.now() - start);
    }
  }
}

/**
 * One runtime in a page of its own: milliseconds until it is loaded, of the first frame after that, and bytes of
 * WebAssembly memory in the end.
 */
globalThis.cold = async (job, name) => {
  const memories = [];
  for (const method of ["instantiate", "instantiateStreaming"]) {
    const original = WebAssembly[method].bind(WebAssembly);
    WebAssembly[method] = async (source, imports) => {
      const result = await original(source, imports);
      const all = [(result.instance ?? result).exports, ...Object.values(imports ?? {})].flatMap((part) => Object.values(part));
      memories.push(...all.filter((value) => value instanceof WebAssembly.Memory));
      return result;
    };
  }
  const [url, load] = runtimes(job)[name];
  const model = await bytes(url);
  const start = performance.now();
  const frame = await load(model);
  const loaded = performance.now();
  await frame();
  const first = performance.now() - loaded;
  const memory = [...new Set(memories)].reduce((sum, { buffer }) => sum + buffer.byteLength, 0);
  return { load: loaded - start, first, memory };
};

/** Rows of `[name, multiply-accumulates, milliseconds at best]` for one model, and the machine's peaks. */
globalThis.profile = async ({ url, size, rounds }) => {
  const glue = await import(`/ours/micro_yolo_full.js`);
  await glue.default({ module_or_path: "/ours/micro_yolo_full_relaxed_bg.wasm" });
  const engine = new glue.Engine(await bytes(url), size, size);
  engine.setScoreThreshold(1);
  const rgba = picture(size);
  for (let round = 0; round < 20; round++) {
    engine.detect(rgba, size, size, false);
    await new Promise((done) => setTimeout(done, 10));
  }
  engine.profile();
  let frame = Infinity;
  for (let round = 0; round < rounds; round++) {
    const start = performance.now();
    engine.detect(rgba, size, size, false);
    frame = Math.min(frame, performance.now() - start);
  }
  const rows = JSON.parse(engine.profile());
  engine.peaks();
  await new Promise((done) => setTimeout(done, 200));
  return { rows, frame, peaks: [...engine.peaks()] };
};
