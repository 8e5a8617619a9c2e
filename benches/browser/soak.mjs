// Whether memory stays flat over thousands of frames and hundreds of detectors, in headless Chromium and Firefox. Linux only.
//
//   cargo xtask build
//   node benches/browser/soak.mjs [--frames 10000] [--cycles 200] [--size 160] [--browsers Chromium,Firefox] [--write]
//
// Frames: one detector of the package's model, in its worker, looks at one picture after the other. Cycles: a detector is
// loaded, looks at a picture and is disposed of. Memory is that of all processes of the browser in which pages and their workers
// run, each shared page of memory counted once (`Pss` of /proc/PID/smaps_rollup), after Chromium was asked to collect its garbage
// and the page has been idle for a second. Browsers that are driven from outside keep each answer of the network, also to a bare
// `fetch()`: so the model is fetched once, and the browser's main process, where Firefox keeps them, is left out. What a driver
// evaluates in Firefox keeps what it imports and fetches: so the work is a script of the page, and is only started from outside.
// `--write` puts the table into docs/reliability.md, if the run was not shorter than by default.
import { readFile, readdir } from "node:fs/promises";
import { cpus } from "node:os";
import { parseArgs } from "node:util";

import { launchChromium, launchFirefox } from "../../tests/e2e/lib/browsers.mjs";
import { serve } from "../../tests/e2e/lib/server.mjs";
import { putBetween } from "./document.mjs";

const BROWSERS = ["Chromium", "Firefox"];
/** What is measured for the document. */
const [FRAMES, CYCLES] = [10_000, 200];

const { values } = parseArgs({
  options: {
    frames: { type: "string", default: String(FRAMES) },
    cycles: { type: "string", default: String(CYCLES) },
    size: { type: "string", default: "160" },
    browsers: { type: "string", default: "Chromium,Firefox" },
    write: { type: "boolean", default: false },
  },
});
const [frames, cycles, size] = [values.frames, values.cycles, values.size].map(Number);
const chosen = BROWSERS.filter((name) => values.browsers.split(",").includes(name));
if (![frames, cycles, size].every((count) => Number.isInteger(count) && count > 0) || !chosen.length) {
  throw new Error("--frames, --cycles and --size are whole numbers, --browsers some of Chromium,Firefox");
}
if (values.write && (frames < FRAMES || cycles < CYCLES || chosen.length < 2)) {
  throw new Error(`--write: a run of less than ${FRAMES} frames and ${CYCLES} cycles in both browsers is no measurement`);
}
/** Where the growth is counted from: caches and compiled code are there by then. */
const SETTLED = 0.1;
const PLACES = [SETTLED, 0.25, 0.5, 0.75, 1];

/** Of a process in which pages run, in Chromium and Firefox. */
const OF_PAGES = /--type=renderer|-contentproc/;

/** Megabytes of those among this process's children, and theirs. */
async function megabytes() {
  const parents = new Map();
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    // `PID (NAME) STATE PARENT …`; the name may hold anything.
    const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
    parents.set(pid, stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
  }
  const isOurs = (pid) => pid !== undefined && (pid === String(process.pid) || isOurs(parents.get(pid)));
  let kilobytes = 0;
  for (const pid of parents.keys()) {
    if (pid === String(process.pid) || !isOurs(pid)) continue;
    if (!OF_PAGES.test(await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => ""))) continue;
    const rollup = await readFile(`/proc/${pid}/smaps_rollup`, "utf8").catch(() => "");
    kilobytes += Number(/^Pss:\s+(\d+)/m.exec(rollup)?.[1] ?? 0);
  }
  return kilobytes / 1024;
}

/** In the page: `count` frames of one detector. */
async function look({ count, size }) {
  const { Detector } = await import("/pkg/index.js");
  globalThis.detector ??= await Detector.load({ inputSize: size });
  globalThis.picture ??= await fetch("/samples/cat.jpg").then((response) => response.blob()).then(createImageBitmap);
  const started = performance.now();
  let objects = 0;
  for (let at = 0; at < count; at += 1) objects += (await globalThis.detector.detect(globalThis.picture)).length;
  return { milliseconds: performance.now() - started, objects };
}

/** In the page: `count` detectors, one after the other. */
async function cycle({ count, size }) {
  const { Detector } = await import("/pkg/index.js");
  globalThis.detector?.dispose();
  globalThis.detector = undefined;
  const picture = await fetch("/samples/cat.jpg").then((response) => response.blob()).then(createImageBitmap);
  globalThis.model ??= await fetch("/pkg/wasm/micro-yolo-int8.onnx").then((response) => response.arrayBuffer());
  const started = performance.now();
  let objects = 0;
  for (let at = 0; at < count; at += 1) {
    const detector = await Detector.load({ inputSize: size, model: globalThis.model });
    objects += (await detector.detect(picture)).length;
    detector.dispose();
  }
  picture.close();
  return { milliseconds: performance.now() - started, objects };
}

/** In the page: does a part of the work, and puts what came of it where it is looked for. */
function begin(work, options) {
  globalThis.result = undefined;
  work(options).then(
    (result) => (globalThis.result = result),
    (error) => (globalThis.result = { error: String(error) }),
  );
}

/** Has the page do a part, and asks for its end again and again: a driver waits for one answer only so long. */
async function part(page, work, options) {
  await page.evaluate((work, options) => globalThis.begin(globalThis[work], options), work, options);
  for (;;) {
    const result = await page.evaluate(() => globalThis.result);
    if (result?.error) throw new Error(result.error);
    if (result) return result;
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

const server = await serve();
server.route("/blank.html", (_, response) =>
  response.writeHead(200, { "content-type": "text/html" }).end(`<!doctype html><title>soak</title><script>${look}${cycle}${begin}</script>`),
);
const rows = [];
for (const name of chosen) {
  const browser = await (name === "Chromium" ? launchChromium(["--js-flags=--expose-gc"]) : launchFirefox());
  const version = (await browser.version()).replace(/^.*\//, "").split(".")[0];
  const page = await browser.newPage();
  page.setDefaultTimeout(0);
  await page.goto(`${server.url}blank.html`);
  for (const [what, work, total] of [["frames", look, frames], ["cycles", cycle, cycles]]) {
    let done = 0;
    let time = 0;
    let objects = 0;
    const memory = [];
    for (const place of PLACES) {
      const upTo = Math.round(total * place);
      const { milliseconds, objects: seen } = await part(page, work.name, { count: upTo - done, size });
      done = upTo;
      time += milliseconds;
      objects += seen;
      await page.evaluate(() => globalThis.gc?.()); // Where the browser lets a page ask for it.
      await new Promise((resolve) => setTimeout(resolve, 1000));
      memory.push(await megabytes());
      console.log(name, what, done, `${memory.at(-1).toFixed(0)} MB, ${(time / done).toFixed(1)} ms each`);
    }
    if (objects < total) throw new Error(`${name}: only ${objects} objects in ${total} ${what}`);
    rows.push({ name: `${name} ${version}`, what, total, memory, milliseconds: time / total });
  }
  await browser.close();
}
await server.close();

const head = ["browser", "what", ...PLACES.map((place) => `after ${place * 100} %`), "ms each"];
const lines = [head, head.map((_, index) => (index < 2 ? "---" : "--:"))].concat(
  rows.map(({ name, what, total, memory, milliseconds }) => [
    name,
    what === "frames" ? `${total.toLocaleString("en")} frames` : `${total} detectors loaded and disposed of`,
    ...memory.map((one) => `${one.toFixed(0)} MB`),
    milliseconds.toFixed(1),
  ]),
);
const table = lines.map((cells) => `| ${cells.join(" | ")} |`).join("\n");
const where = `\`node benches/browser/soak.mjs --frames ${frames} --cycles ${cycles} --size ${size}\`, ${cpus()[0].model.trim()}, ${new Date().toISOString().slice(0, 10)}.`;
console.log(`\n${where}\n\n${table}`);
if (values.write) await putBetween("docs/reliability.md", ["<!-- soak -->", "<!-- /soak -->"], `${where}\n\n${table}`);
