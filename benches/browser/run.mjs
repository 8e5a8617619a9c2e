// `cargo xtask bench`: how long a frame takes, beside onnxruntime-web, in headless Chromium.
//
//   cargo xtask bench [--models DIR] [--sizes 416,320,256] [--networks micro-yolo,micro-yolo-s]
//                     [--rounds N] [--simd128] [--ours DIR] [--json FILE] [--write]
//   cargo xtask bench --threads N [--sizes 416] [--networks micro-yolo]  (one thread beside several)
//   cargo xtask bench --profile [--sizes 416] [--networks micro-yolo]    (where a frame's time goes, step by step)
//
// Networks are files NAME-SIZE.onnx and NAME-SIZE-int8.onnx. Those of models/ are written for each size by
// benches/models.py, which xtask calls.
//
// For "frame" and "best" all runtimes sit in one page, each on one thread, and take turns frame by frame, so that
// whatever else the machine does meets all alike; "frame" is the median. A frame of ours is `detect` on a picture of the
// network's size: letterbox, network, decoding and suppression. A frame of onnxruntime-web is `session.run` on a tensor
// that is ready, so the comparison favours it. "load", "first" and "MB", of WebAssembly memory, are from a page that
// has that runtime alone. Ours is the build for relaxed SIMD; `--simd128` measures the other one, too.
//
// With `--threads` the package's detector, in its worker, and onnxruntime-web run the float file on N threads each and on
// one, in turn as above; ours runs the int8 file, too.
//
// `--write` puts the table into docs/performance.md, and draws it and the accuracy of benches/accuracy.json against time.
// That file's networks of others are drawn where --models has them.
//
// A ratio is onnxruntime-web's float frame, its quickest way to run either file, over this one; the last line repeats
// those of the first network at the first size.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";

import { launchChromium } from "../../tests/e2e/lib/browsers.mjs";
import { ROOT, TARGET, serve } from "../../tests/e2e/lib/server.mjs";
import { bars, scatter } from "./chart.mjs";
import { putBetween } from "./document.mjs";

const HERE = join(ROOT, "benches/browser");

const { values: options } = parseArgs({
  options: {
    models: { type: "string", default: join(TARGET, "bench-models") },
    sizes: { type: "string", default: "416,320,256" },
    networks: { type: "string", default: "micro-yolo,micro-yolo-s" },
    rounds: { type: "string", default: "40" },
    ours: { type: "string", default: join(ROOT, "pkg/wasm") },
    simd128: { type: "boolean", default: false },
    json: { type: "string" },
    write: { type: "boolean", default: false },
    profile: { type: "boolean", default: false },
    threads: { type: "string" },
  },
});

const ORT = join(HERE, "node_modules/onnxruntime-web/dist");
if (!existsSync(ORT)) throw new Error("onnxruntime-web is missing: npm ci --prefix benches/browser");

const FOLDERS = {
  "/ort/": ORT,
  "/ours/": resolve(options.ours),
  "/page/": HERE,
  "/pkg/": join(ROOT, "pkg"),
  "/models/": resolve(options.models),
};
// An isolated page has threads, and a clock of 5 µs; the others' is twenty times as coarse.
const ISOLATED = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" };
const server = await serve({ mounts: FOLDERS, headers: options.profile || options.threads ? ISOLATED : {} });

// However long a page measures.
const browser = await launchChromium(["--disable-gpu", "--disable-background-networking"], { protocolTimeout: 0 });
const version = (await browser.version()).replace(/^.*\//, "");
const rows = [];
const pad = (text, width) => String(text).padStart(width);

const where = () => `${cpus()[0].model.trim()}, Chromium ${version}, one thread, median of ${options.rounds} rounds, ms`;

/** Calls `f` with `argument` in a new page. */
async function inPage(f, argument) {
  const page = await browser.newPage();
  page.on("pageerror", (error) => console.error(String(error)));
  await page.goto(`${server.url}page/page.html`);
  const result = await page.evaluate(f, argument);
  await page.close();
  return result;
}

/** Prints where the time of one model's frames goes. */
async function profile(name, size) {
  const job = { url: `/models/${name}.onnx`, size, rounds: Number(options.rounds) };
  const { rows, frame, peaks } = await inPage((job) => globalThis.profile(job), job);
  const [float, int8] = peaks;
  console.log(`\n${name}: best frame ${frame.toFixed(2)} ms; peak ${(float / 1e9).toFixed(1)} GMAC/s float, ${(int8 / 1e9).toFixed(1)} int8`);
  console.log(`${"step".padEnd(62)}${pad("ms", 8)}${pad("MMAC", 8)}${pad("GMAC/s", 8)}${pad("peak", 6)}`);
  for (const [step, macs, ms] of rows) {
    const rate = macs / (ms * 1e-3);
    const share = `${Math.round((100 * rate) / (step.includes("int8") ? int8 : float))}%`;
    const figures = macs ? [(macs / 1e6).toFixed(1), (rate / 1e9).toFixed(1)].map((f) => pad(f, 8)).join("") + pad(share, 6) : "";
    console.log(`${step.padEnd(62)}${pad(ms.toFixed(3), 8)}${figures}`);
  }
  const sum = (pick) => rows.reduce((sum, row) => sum + pick(row), 0);
  console.log(`${"multiply-accumulates, all".padEnd(62)}${pad("", 8)}${pad((sum((row) => row[1]) / 1e6).toFixed(1), 8)}`);
}

/** Prints what several threads gain for one model. */
async function several(name, size, threads) {
  const url = (kind) => `/models/${name}${kind}.onnx`;
  const job = { float: url(""), int8: url("-int8"), size, threads, rounds: Number(options.rounds) };
  const times = await inPage((job) => globalThis.several(job), job);
  console.log(`\n${name.padEnd(26)}${pad("1 thread", 10)}${pad(`${threads} threads`, 11)}${pad("gain", 7)}`);
  for (const [runtime, [one, many]] of Object.entries(times)) {
    console.log(`${runtime.padEnd(26)}${pad(one.toFixed(1), 10)}${pad(many.toFixed(1), 11)}${pad((one / many).toFixed(2), 7)}`);
  }
}

try {
  const sizes = options.sizes.split(",").map(Number);
  if (options.threads) {
    console.log(`${cpus()[0].model}, Chromium ${version}, median of ${options.rounds} rounds, ms`);
    for (const network of options.networks.split(",")) {
      for (const size of sizes) await several(`${network}-${size}`, size, Number(options.threads));
    }
    process.exit(0);
  }
  if (options.profile) {
    for (const network of options.networks.split(",")) {
      for (const kind of ["", "-int8"]) await profile(`${network}-${sizes[0]}${kind}`, sizes[0]);
    }
    process.exit(0);
  }
  for (const network of options.networks.split(",")) {
    for (const size of sizes) {
      const name = `${network}-${size}`;
      if (!existsSync(join(FOLDERS["/models/"], `${name}.onnx`))) {
        console.error(`${name}.onnx is not in ${FOLDERS["/models/"]}: left out`);
        continue;
      }
      const job = {
        float: `/models/${name}.onnx`,
        int8: existsSync(join(FOLDERS["/models/"], `${name}-int8.onnx`)) ? `/models/${name}-int8.onnx` : undefined,
        size,
        rounds: Number(options.rounds),
        simd128: options.simd128,
      };
      const steady = await inPage((job) => globalThis.measure(job), job);
      for (const [runtime, times] of Object.entries(steady)) {
        const cold = await inPage(([job, runtime]) => globalThis.cold(job, runtime), [job, runtime]);
        rows.push({ network, size, runtime, ...cold, ...times });
      }
    }
  }
  console.log(where());
} finally {
  await browser.close();
  await server.close();
}

for (const row of rows) {
  const same = (other) => other.network === row.network && other.size === row.size;
  row.ratio = rows.find((other) => same(other) && other.runtime === "onnxruntime-web f32").frame / row.frame;
}
const heads = ["load", "first", "MB", "frame", "best", "ratio"].map((head) => pad(head, 8)).join("");
console.log(`${"network".padEnd(14)}${pad("size", 5)}  ${"runtime".padEnd(26)}${heads}`);
for (const { network, size, runtime, load, first, memory, frame, best, ratio } of rows) {
  const figures = [load, first, memory / 2 ** 20, frame, best].map((figure) => pad(figure.toFixed(1), 8)).join("");
  console.log(`${network.padEnd(14)}${pad(size, 5)}  ${runtime.padEnd(26)}${figures}${pad(ratio.toFixed(2), 8)}`);
}
if (options.json) writeFileSync(options.json, `${JSON.stringify(rows, undefined, 1)}\n`);

if (options.write) await write();

const [first] = rows;
const of = (runtime) => rows.find((row) => row.network === first.network && row.size === first.size && row.runtime === runtime);
const shown = (runtime) => of(runtime)?.ratio.toFixed(2) ?? "-";
if (first) console.log(`RATIO f32 ${shown("micro-yolo f32")} int8 ${shown("micro-yolo int8")}`);

/** Puts table and pictures into the documents. */
async function write() {
  const comments = ["<!-- begin: cargo xtask bench --write -->", "<!-- end: bench -->"];
  const date = new Date().toISOString().slice(0, 10);
  await putBetween("docs/performance.md", comments, `${where()}, ${date}.\n\n${table()}`);
  writeFileSync(join(ROOT, "docs/images/bench.svg"), bars(rows));

  const accuracies = JSON.parse(readFileSync(join(HERE, "../accuracy.json"), "utf8"));
  const points = accuracies.flatMap(({ file, name, coco }) => {
    const isInt8 = file.endsWith("-int8");
    const runtimes = isInt8 ? ["micro-yolo int8"] : ["micro-yolo f32", "onnxruntime-web f32"];
    const ofFile = rows.filter((row) => `${row.network}-${row.size}` === file.replace(/-int8$/, ""));
    const shown = ofFile.filter((row) => runtimes.includes(row.runtime));
    return shown.map(({ runtime, frame }) => ({ name, runtime, frame, accuracy: coco }));
  });
  writeFileSync(join(ROOT, "docs/images/accuracy.svg"), scatter(points));
}

/** The rows as a Markdown table: a line for each network and size. */
function table() {
  const columns = ["onnxruntime-web f32", "onnxruntime-web int8", "micro-yolo f32", "micro-yolo int8"];
  const lines = [
    "| network | px | onnxruntime-web, float | int8 | **ours, float** | **int8** | ratio, float | int8 | int8, same file |",
    `|---|${"--:|".repeat(8)}`,
  ];
  const title = ({ network, size }) => `${network} | ${size}`;
  for (const name of new Set(rows.map(title))) {
    const by = (runtime) => rows.find((row) => title(row) === name && row.runtime === runtime);
    const times = columns.map((runtime) => (by(runtime) ? `${by(runtime).frame.toFixed(1)} (${by(runtime).best.toFixed(1)})` : "–"));
    const ratio = (over, under) => (by(over) && by(under) ? (by(over).frame / by(under).frame).toFixed(2) : "–");
    const [theirs, theirsInt8, ours, oursInt8] = columns;
    const ratios = [ratio(theirs, ours), ratio(theirs, oursInt8), ratio(theirsInt8, oursInt8)];
    lines.push(`| ${[name, ...times, ...ratios].join(" | ")} |`);
  }
  return lines.join("\n");
}
