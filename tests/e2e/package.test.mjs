// The package as users get it: packed, installed into a project of its own, and used without a bundler. It finds the cat, with
// the model that is inside. Bundlers: bundlers.test.mjs; service workers, extensions and the like: places.test.mjs.
import assert from "node:assert/strict";
import { readFile, readdir, writeFile } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import { join } from "node:path";
import { launchChromium, launchFirefox } from "./lib/browsers.mjs";
import { html, installed, run, whatIsSeen } from "./lib/project.mjs";
import { ROOT, serve } from "./lib/server.mjs";

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
let project;

before(async () => {
  project = await installed();
});

after(async () => await project?.remove());

test("the tarball holds what it needs, and depends on nothing", async () => {
  const files = project.packed.files.map(({ path }) => path).sort();
  for (const needed of ["index.js", "index.d.ts", "worker.js", "inline.js", "small.js", "draw.d.ts", "element.d.ts", "README.md", "LICENSE-MIT"]) {
    assert.ok(files.includes(needed), `${needed} is missing`);
  }
  const engines = ["", "_relaxed", "_full", "_full_relaxed"].map((kind) => `micro_yolo${kind}_bg.wasm`);
  for (const needed of [...engines, "micro_yolo_full.js", "micro_yolo.js", "micro-yolo-int8.onnx"]) {
    assert.ok(files.includes(`wasm/${needed}`), `${needed} is missing`);
  }
  const unwanted = files.filter((path) => /test|node_modules|\.map$|^\.|\/\./.test(path));
  assert.deepEqual(unwanted, []);
  const installed = await readdir(join(project.folder, "node_modules"));
  assert.deepEqual(installed.filter((name) => !name.startsWith(".")), ["micro-yolo"]);
  const manifest = JSON.parse(await readFile(join(project.home, "package.json"), "utf8"));
  assert.equal(manifest.dependencies, undefined);
  // Every way in leads to a file.
  for (const target of Object.values(manifest.exports).flatMap((one) => (typeof one === "string" ? [one] : Object.values(one)))) {
    if (!target.includes("*")) assert.ok(target === "./package.json" || files.includes(target.slice(2)), target);
  }
  // Hand-written code imports nothing but itself.
  for (const path of files.filter((path) => /^[^/]+\.js$/.test(path) && path !== "inline.js")) {
    const text = await readFile(join(ROOT, "pkg", path), "utf8");
    const shipped = await readFile(join(project.home, path), "utf8");
    assert.ok(shipped.length < text.length && !shipped.includes("/**"), `${path} is not minified`);
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
    const options = { wasm: await file("micro-yolo/wasm/micro_yolo_bg.wasm"), model: await file("micro-yolo/wasm/micro-yolo-int8.onnx") };
    const detector = await Detector.load(options);
    said.push(detector.worker, Array.isArray(await detector.detect({ data: new Uint8Array(64 * 64 * 4), width: 64, height: 64 })));
    said.push(await code(detector.detect("cat.jpg")));
    said.push(await code(detector.detect(new Blob(["x"]))), await code(Detector.load({ ...options, worker: true })));
    // An engine for another runtime is no broken file.
    const relaxed = await file("micro-yolo/wasm/micro_yolo_relaxed_bg.wasm");
    const plain = !WebAssembly.validate(relaxed);
    const other = await Detector.load({ ...options, wasm: relaxed }).catch((error) => error.code + ": " + error.message);
    said.push(plain ? /^unsupported: .*relaxed SIMD.*micro_yolo_bg/.test(other) : typeof other === "object");
    said.push(await code(Detector.load({ ...options, wasm: relaxed.subarray(0, 100_000) })));
    // Nothing has to be read.
    const { Detector: Inline } = await import("micro-yolo/inline");
    const inside = await Inline.load();
    said.push(inside.worker, inside.labels.length, (await inside.detect({ data: new Uint8Array(64), width: 4, height: 4 })).length);
    console.log(JSON.stringify(said));
  `;
  const { stdout, stderr } = await run("node", ["--input-type=module", "--eval", script], { cwd: project.folder });
  assert.deepEqual(JSON.parse(stdout), [
    ...["unsupported", "unsupported", false, true, "unsupported", "unsupported", "unsupported", true, "invalid-engine"],
    ...[false, 80, 0],
  ]);
  assert.equal(stderr, "");
});

test("what the package's README says of Node runs as it stands there", async () => {
  const readme = await readFile(join(ROOT, "pkg/README.md"), "utf8");
  const section = readme.slice(readme.indexOf("\n## Node\n"), readme.indexOf("\n## Browsers\n"));
  const pieces = [...section.matchAll(/^```js\n(.*?)^```$/gms)].map((match) => match[1]);
  assert.equal(pieces.length, 2);
  for (const piece of pieces) {
    const script = `const data = new Uint8Array(400), width = 10, height = 10;${piece}console.log(detector.labels[15]);`;
    const { stdout, stderr } = await run("node", ["--input-type=module", "--eval", script], { cwd: project.folder });
    assert.deepEqual([stdout, stderr], ["cat\n", ""]);
  }
});

test("types are found by every resolution", async () => {
  await writeFile(
    join(project.folder, "typed.mts"),
    `import { Detector, type DetectedObject } from "micro-yolo";
     import { drawObjects } from "micro-yolo/draw";
     import type { MicroYoloElement } from "micro-yolo/element";
     import { Detector as Inline } from "micro-yolo/inline";
     import { Detector as Small } from "micro-yolo/small";
     export const others: Promise<Detector>[] = [Inline.load(), Small.load({ worker: true })];
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
      { cwd: project.folder },
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

  /** In both browsers, each in a page of its own. */
  async function assertCatIn(url) {
    for (const browser of [chromium, firefox]) {
      const page = await browser.newPage();
      try {
        assert.match(await whatIsSeen(page, url), /\bcat\b/);
      } finally {
        await page.close();
      }
    }
  }

  test("by a plain page", async (t) => {
    await project.app("plain", {
      "index.html": html("main.js"),
      "main.js": MAIN.replace('"micro-yolo"', '"/node_modules/micro-yolo/index.js"').replace("cat.jpg", "public/cat.jpg"),
    });
    const site = await serve({ mounts: { "/": project.folder } });
    t.after(() => site.close());
    await assertCatIn(`${site.url}plain/`);
    const fetched = site.requests.filter((path) => path.endsWith(".wasm") || path.endsWith(".onnx"));
    assert.equal(fetched.length, 4, "engine and model once for each browser");
  });

  test("from another origin, as a CDN is", async (t) => {
    const cdn = await serve({ mounts: { "/": join(project.folder, "node_modules") }, headers: { "access-control-allow-origin": "*" } });
    await project.app("cdn", {
      "index.html": html("main.js"),
      "main.js": MAIN.replace('"micro-yolo"', JSON.stringify(`${cdn.url}micro-yolo/index.js`)).replace("cat.jpg", "public/cat.jpg"),
    });
    const site = await serve({ mounts: { "/": project.folder } });
    t.after(() => Promise.all([site.close(), cdn.close()]));
    await assertCatIn(`${site.url}cdn/`);
  });

  test("in a worker of the user's", async (t) => {
    await project.app("worker", {
      "index.html": html("main.js"),
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
    const site = await serve({ mounts: { "/": project.folder } });
    t.after(() => site.close());
    await assertCatIn(`${site.url}worker/`);
    assert.ok(site.requests.some((path) => path.endsWith("/engine.js")));
    assert.ok(!site.requests.some((path) => path.endsWith("/micro-yolo/worker.js")), "it computes there, in no second worker");
  });
});
