// The package as users get it: packed, installed into a project of its own, and used in each of the ways they use it.
// In all of them it finds the cat, with the model that is inside.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { after, before, describe, test } from "node:test";
import { join } from "node:path";
import { promisify } from "node:util";
import { launchChromium, launchFirefox } from "./lib/browsers.mjs";
import { ROOT, serve } from "./lib/server.mjs";

const run = promisify(execFile);

/** What a user writes, and nothing else. */
const MAIN = `
import { Detector } from "micro-yolo";
const detector = await Detector.load();
const image = new Image();
image.src = "cat.jpg";
await image.decode();
const objects = await detector.detect(image);
detector.dispose();
document.title = objects.map((object) => object.label).join(" ") || "nothing";
`;
/** The same on two threads; tells on how many. */
const THREADED = MAIN.replace("load()", "load({ threads: 2 })").replace("|| \"nothing\"", "+ ` threads:${detector.threads}`");
const ISOLATED = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" };
/** \`base\` so that a bundle works under any address. */
const HTML = (script) => `<!doctype html><title>waiting</title><script type="module" src="${script}"></script>`;

let project, packed;

/** Writes an app of its own beside the installed package. */
async function app(name, files) {
  const folder = join(project, name);
  await mkdir(join(folder, "public"), { recursive: true });
  await cp(join(ROOT, "data/samples/cat.jpg"), join(folder, "public/cat.jpg"));
  for (const [path, text] of Object.entries(files)) await writeFile(join(folder, path), text);
  return folder;
}

/** Opens an address and waits until the page has said what it saw. */
async function whatIsSeen(page, url) {
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  await page.goto(url);
  const deadline = Date.now() + 60_000;
  for (;;) {
    const title = await page.title();
    if (title !== "waiting" && title !== "") return title.split(" ");
    if (errors.length || Date.now() > deadline) throw new Error(`nothing was seen: ${errors.join("; ") || "no answer"}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

const assertCat = (labels) => assert.ok(labels.includes("cat"), `saw ${labels}, no cat`);

before(async () => {
  project = await mkdtemp(join(tmpdir(), "micro-yolo-"));
  const { stdout } = await run("npm", ["pack", "--json", "--pack-destination", project], { cwd: join(ROOT, "pkg") });
  [packed] = JSON.parse(stdout);
  await writeFile(join(project, "package.json"), JSON.stringify({ name: "app", private: true, type: "module" }));
  const tarball = join(project, packed.filename);
  await run("npm", ["install", "--offline", "--no-audit", "--no-fund", tarball], { cwd: project });
});

after(async () => await rm(project, { recursive: true, force: true }));

test("the tarball holds what it needs, and depends on nothing", async () => {
  const files = packed.files.map(({ path }) => path).sort();
  for (const needed of ["index.js", "index.d.ts", "worker.js", "draw.d.ts", "element.d.ts", "README.md", "LICENSE-MIT"]) {
    assert.ok(files.includes(needed), `${needed} is missing`);
  }
  const engines = ["", "_relaxed", "_small", "_small_relaxed"].map((kind) => `micro_yolo${kind}_bg.wasm`);
  for (const needed of [...engines, "micro_yolo.js", "micro_yolo_small.js", "micro-yolo-s-int8.onnx"]) {
    assert.ok(files.includes(`wasm/${needed}`), `${needed} is missing`);
  }
  const unwanted = files.filter((path) => /test|node_modules|\.map$|^\.|\/\./.test(path));
  assert.deepEqual(unwanted, []);
  const installed = await readdir(join(project, "node_modules"));
  assert.deepEqual(installed.filter((name) => !name.startsWith(".")), ["micro-yolo"]);
  const manifest = JSON.parse(await readFile(join(project, "node_modules/micro-yolo/package.json"), "utf8"));
  assert.equal(manifest.dependencies, undefined);
  // Every way in leads to a file.
  for (const target of Object.values(manifest.exports).flatMap((one) => (typeof one === "string" ? [one] : Object.values(one)))) {
    if (!target.includes("*")) assert.ok(target === "./package.json" || files.includes(target.slice(2)), target);
  }
  // Hand-written code imports nothing but itself.
  for (const path of files.filter((path) => /^[^/]+\.js$/.test(path))) {
    const text = await readFile(join(project, "node_modules/micro-yolo", path), "utf8");
    for (const [, from] of text.matchAll(/^(?:import|export) .*? from "([^"]+)"/gm)) assert.match(from, /^\.\//, path);
  }
});

test("Node finds objects in pixels, and says what it cannot do", async () => {
  const script = `
    import { readFile } from "node:fs/promises";
    import { Detector } from "micro-yolo";
    import "micro-yolo/draw";
    import "micro-yolo/element";
    const file = (path) => readFile(new URL(import.meta.resolve(path)));
    const code = (promise) => promise.then(() => "fine", (error) => error.code);
    const said = [await code(Detector.load()), await code(Detector.load({ worker: false }))];
    const options = { worker: false, wasm: await file("micro-yolo/wasm/micro_yolo_bg.wasm"), model: await file("micro-yolo/wasm/micro-yolo-s-int8.onnx") };
    const detector = await Detector.load(options);
    said.push(Array.isArray(await detector.detect({ data: new Uint8Array(64 * 64 * 4), width: 64, height: 64 })));
    said.push(await code(detector.detect(new Blob(["x"]))));
    console.log(JSON.stringify(said));
  `;
  const { stdout, stderr } = await run("node", ["--input-type=module", "--eval", script], { cwd: project });
  assert.deepEqual(JSON.parse(stdout), ["unsupported", "unsupported", true, "unsupported"]);
  assert.equal(stderr, "");
});

test("types are found by every resolution", async () => {
  await writeFile(
    join(project, "typed.mts"),
    `import { Detector, type DetectedObject } from "micro-yolo";
     import { drawObjects } from "micro-yolo/draw";
     import type { MicroYoloElement } from "micro-yolo/element";
     export async function main(canvas: HTMLCanvasElement, element: MicroYoloElement): Promise<readonly DetectedObject[]> {
       const objects: DetectedObject[] = await (await Detector.load()).detect(canvas);
       drawObjects(canvas, objects, canvas);
       return element.objects;
     }`,
  );
  for (const [module, moduleResolution] of [
    ["esnext", "bundler"],
    ["nodenext", "nodenext"],
  ]) {
    await run(
      join(ROOT, "node_modules/.bin/tsc"),
      ["--noEmit", "--strict", "--target", "es2022", "--module", module, "--moduleResolution", moduleResolution]
        .concat(["--lib", "es2022,dom,dom.iterable,dom.asynciterable", "--skipLibCheck", "false", "--types", "", "typed.mts"]),
      { cwd: project },
    ).catch((error) => assert.fail(`${moduleResolution}: ${error.stdout}`));
  }
});

describe("the cat is found", () => {
  let chromium, firefox;
  before(async () => {
    chromium = await launchChromium();
    firefox = await launchFirefox();
  });
  after(async () => {
    await chromium?.close();
    await firefox?.close();
  });

  /** In both browsers, each in a page of its own; `threads` are what Chromium says. */
  async function assertCatIn(url, threads) {
    for (const browser of [chromium, firefox]) {
      const page = await browser.newPage();
      try {
        const seen = await whatIsSeen(page, url);
        assertCat(seen);
        if (threads && browser === chromium) assert.ok(seen.includes(`threads:${threads}`), String(seen));
      } finally {
        await page.close();
      }
    }
  }

  test("by a plain page", async (t) => {
    await app("plain", {
      "index.html": HTML("main.js"),
      "main.js": MAIN.replace('"micro-yolo"', '"/node_modules/micro-yolo/index.js"').replace("cat.jpg", "public/cat.jpg"),
    });
    const site = await serve({ mounts: { "/": project } });
    t.after(() => site.close());
    await assertCatIn(`${site.url}plain/`);
    const fetched = site.requests.filter((path) => path.endsWith(".wasm") || path.endsWith(".onnx"));
    assert.equal(fetched.length, 4, "engine and model once for each browser");
  });

  test("from another origin, as a CDN is", async (t) => {
    const cdn = await serve({ mounts: { "/": join(project, "node_modules") }, headers: { "access-control-allow-origin": "*" } });
    await app("cdn", {
      "index.html": HTML("main.js"),
      "main.js": MAIN.replace('"micro-yolo"', JSON.stringify(`${cdn.url}micro-yolo/index.js`)).replace("cat.jpg", "public/cat.jpg"),
    });
    const site = await serve({ mounts: { "/": project } });
    t.after(() => Promise.all([site.close(), cdn.close()]));
    await assertCatIn(`${site.url}cdn/`);
  });

  test("in a worker of the user's", async (t) => {
    await app("worker", {
      "index.html": HTML("main.js"),
      "main.js": `
        const worker = new Worker("worker.js", { type: "module" });
        worker.onmessage = ({ data }) => (document.title = data);
        worker.onerror = (event) => (document.title = "error " + event.message);`,
      "worker.js": `
        import { Detector } from "/node_modules/micro-yolo/index.js";
        const detector = await Detector.load();
        const cat = new URL("public/cat.jpg", location);
        const objects = await detector.detect(cat);
        postMessage(objects.map((object) => object.label).join(" ") || "nothing");`,
    });
    const site = await serve({ mounts: { "/": project } });
    t.after(() => site.close());
    await assertCatIn(`${site.url}worker/`);
    assert.ok(site.requests.some((path) => path.endsWith("/engine.js")));
    assert.ok(!site.requests.some((path) => path.endsWith("/micro-yolo/worker.js")), "it computes there, in no second worker");
  });

  test("bundled by Vite, and by its development server", async (t) => {
    const { build, createServer } = await import("vite");
    const root = await app("vite", { "index.html": HTML("/main.js"), "main.js": THREADED });
    const common = { root, logLevel: "error", configFile: false };
    await build({ ...common, base: "./", build: { target: "esnext", outDir: "dist" } });
    const site = await serve({ mounts: { "/deep/path/": join(root, "dist") }, headers: ISOLATED });
    t.after(() => site.close());
    await assertCatIn(`${site.url}deep/path/`, 2);
    // Nothing twice: the five engines, and one model.
    const assets = await readdir(join(root, "dist/assets"));
    assert.equal(assets.filter((name) => name.endsWith(".wasm")).length, 5, String(assets));
    assert.equal(assets.filter((name) => name.endsWith(".onnx")).length, 1, String(assets));

    const development = await createServer({ ...common, server: { port: 0, host: "127.0.0.1" } });
    t.after(() => development.close());
    await development.listen();
    await assertCatIn(development.resolvedUrls.local[0], 1);
  });

  test("bundled by webpack", async (t) => {
    const { default: webpack } = await import("webpack");
    const root = await app("webpack", { "main.js": THREADED, "public/index.html": HTML("main.js") });
    const stats = await promisify(webpack)({
      mode: "production",
      context: root,
      entry: "./main.js",
      output: { path: join(root, "public"), filename: "main.js" },
      experiments: { topLevelAwait: true },
    });
    assert.ok(!stats.hasErrors(), stats.toString({ all: false, errors: true }));
    const site = await serve({ mounts: { "/": join(root, "public") }, headers: ISOLATED });
    t.after(() => site.close());
    await assertCatIn(site.url, 2);
  });
});
