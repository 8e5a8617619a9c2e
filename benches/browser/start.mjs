// How long it takes until a page has its first objects, with each entry of the package, in headless Chromium.
//
//   cargo xtask build
//   node benches/browser/start.mjs [--rounds 15] [--write]
//
// The package is served as it is shipped, after gzip, from this machine: once as fast as that goes, and once as over a connection
// of 10 Mbit/s whose answers come after 40 ms. Each round is a new visitor, who has nothing in a cache. The entries take turns, so
// that whatever else the machine does meets all alike, and the ratio of each is the median of those of its rounds. `--write` puts
// the table into docs/performance.md.
import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { execFileSync } from "node:child_process";
import { cpus, loadavg, tmpdir } from "node:os";
import { extname, join } from "node:path";
import { parseArgs } from "node:util";
import { setTimeout as sleep } from "node:timers/promises";
import { gzipSync } from "node:zlib";

import { launchChromium } from "../../tests/e2e/lib/browsers.mjs";
import { ROOT, serve } from "../../tests/e2e/lib/server.mjs";
import { putBetween } from "./document.mjs";

const { values } = parseArgs({
  options: { rounds: { type: "string", default: "15" }, write: { type: "boolean", default: false } },
});
const rounds = Number(values.rounds);
const ENTRIES = { index: "micro-yolo", small: "micro-yolo/small", inline: "micro-yolo/inline" };
const LINES = { local: undefined, slow: { bytesPerMs: 10e6 / 8 / 1000, latencyMs: 40 } };
const TYPES = { ".js": "text/javascript", ".wasm": "application/wasm", ".onnx": "application/octet-stream" };

/** When a line is free again: all answers share it. */
let free = 0;

/** @param {import("node:http").ServerResponse} response @param {Buffer} bytes @param {typeof LINES.slow} line */
async function send(response, bytes, line) {
  if (!line) return response.end(bytes);
  await sleep(line.latencyMs);
  for (let at = 0; at < bytes.length; at += 8192) {
    const chunk = bytes.subarray(at, at + 8192);
    free = Math.max(performance.now(), free) + chunk.length / line.bytesPerMs;
    await sleep(free - performance.now());
    response.write(chunk);
  }
  response.end();
}

/** In the page: milliseconds until the entry is there, has loaded a detector, and has found the cat. */
async function start(entry) {
  const picture = await createImageBitmap(await (await fetch("/samples/cat.jpg")).blob());
  const times = [performance.now()];
  const { Detector } = await import(entry);
  times.push(performance.now());
  const detector = await Detector.load();
  times.push(performance.now());
  const [{ label }] = await detector.detect(picture);
  times.push(performance.now());
  if (label !== "cat" || !detector.worker) throw new Error(`${label}, worker ${detector.worker}`);
  return times.slice(1).map((time, index) => time - times[index]);
}

const folder = await mkdtemp(join(tmpdir(), "micro-yolo-"));
execFileSync("node", [join(ROOT, "xtask/package.mjs"), folder]);
const server = await serve({ mounts: { "/samples/": "data/samples" } });
server.route("/", (_, response) => response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>start</title>"));
for (const path of await readdir(folder, { recursive: true })) {
  const type = TYPES[extname(path)];
  if (!type) continue;
  const bytes = gzipSync(await readFile(join(folder, path)), { level: 9 });
  for (const [name, line] of Object.entries(LINES)) {
    server.route(`/${name}/${path}`, (_, response) => {
      response.writeHead(200, { "content-type": type, "content-encoding": "gzip", "content-length": bytes.length });
      return send(response, bytes, line);
    });
  }
}
// Of what else the machine does, before this adds to it.
const [load] = loadavg();
const browser = await launchChromium(["--disable-background-networking"]);
const version = (await browser.version()).replace(/^.*\//, "");
/** Of each line and entry, what each round measured. */
const measured = Object.fromEntries(Object.keys(LINES).map((line) => [line, Object.fromEntries(Object.keys(ENTRIES).map((entry) => [entry, []]))]));
try {
  // The first round is the browser's own start.
  for (let round = -1; round < rounds; round += 1) {
    for (const line of Object.keys(LINES)) {
      for (const entry of Object.keys(ENTRIES)) {
        const context = await browser.createBrowserContext();
        const page = await context.newPage();
        await page.goto(server.url);
        const times = await page.evaluate(start, `/${line}/${entry}.js`);
        if (round >= 0) measured[line][entry].push(times);
        await context.close();
      }
    }
  }
} finally {
  await browser.close();
  await server.close();
  await rm(folder, { recursive: true, force: true });
}

const median = (all) => all.toSorted((a, b) => a - b)[all.length >> 1];
const sum = (times) => times.reduce((total, one) => total + one, 0);
const ratio = (line, entry) => median(measured[line][entry].map((times, round) => sum(times) / sum(measured[line].index[round])));
const head = ["import", "imported", "loaded", "first frame", "together", "ratio", "at 10 Mbit/s", "ratio"];
const rows = Object.entries(ENTRIES).map(([entry, name]) => [
  `\`${name}\``,
  ...[0, 1, 2].map((part) => median(measured.local[entry].map((times) => times[part])).toFixed(0)),
  median(measured.local[entry].map(sum)).toFixed(0),
  ratio("local", entry).toFixed(2),
  median(measured.slow[entry].map(sum)).toFixed(0),
  ratio("slow", entry).toFixed(2),
]);
const table = [head, head.map((_, index) => (index ? "--:" : "---")), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
const where = `${cpus()[0].model.trim()}, Chromium ${version}, median of ${rounds} rounds, ms, beside a load of ${load.toFixed(1)} on ${cpus().length} cores, ${new Date().toISOString().slice(0, 10)}.`;
console.log(`${where}\n\n${table}`);
if (values.write) {
  const comments = ["<!-- begin: benches/browser/start.mjs --write -->", "<!-- end: start -->"];
  await putBetween("docs/performance.md", comments, `${where}\n\n${table}`);
}
