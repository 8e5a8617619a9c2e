// The package as users get it: packed, installed into a project of its own, and used without a bundler. It finds the cat, with
// the model that is inside. Bundlers: bundlers.test.mjs; service workers, extensions and the like: places.test.mjs.
import assert from "node:assert/strict";
import { cp, mkdir, readFile, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import jpeg from "jpeg-js";
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
  for (const needed of ["index.js", "index.d.ts", "worker.js", "inline.js", "small.js", "index.cjs", "draw.d.ts", "element.d.ts", "README.md", "LICENSE-MIT"]) {
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
  const targets = (one) => (typeof one === "string" ? [one] : Object.values(one).flatMap(targets));
  for (const target of targets(manifest.exports)) {
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
    const said = [];
    const detector = await Detector.load();
    said.push(detector.worker, detector.build === (WebAssembly.validate(await file("micro-yolo/wasm/micro_yolo_relaxed_bg.wasm")) ? "relaxed-simd" : "simd128"));
    // Its own files are read, those of others are to be given.
    const options = { wasm: await file("micro-yolo/wasm/micro_yolo_bg.wasm"), model: await file("micro-yolo/wasm/micro-yolo-int8.onnx") };
    said.push(await code(Detector.load({ ...options, model: import.meta.resolve("micro-yolo/wasm/micro-yolo-int8.onnx") })));
    (await Detector.load(options)).dispose();
    said.push(Array.isArray(await detector.detect({ data: new Uint8Array(64 * 64 * 4), width: 64, height: 64 })));
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
    ...[false, true, "unsupported", true, "unsupported", "unsupported", "unsupported", true, "invalid-engine"],
    ...[false, 80, 0],
  ]);
  assert.equal(stderr, "");
});

test("Node finds the cat by require(), and by import from any folder", async () => {
  const { data, width, height } = jpeg.decode(await readFile(join(ROOT, "data/samples/cat.jpg")), { useTArray: true });
  await writeFile(join(project.folder, "cat.rgba"), data);
  const script = (get) => `
    (async () => {
      const { Detector, MicroYoloError } = ${get};
      const detector = await Detector.load({ inputSize: 320 });
      const image = { data: require("node:fs").readFileSync("cat.rgba"), width: ${width}, height: ${height} };
      const refused = await detector.detect("cat.jpg").catch((error) => error instanceof MicroYoloError && error.code);
      console.log((await detector.detect(image))[0].label, refused);
    })()`;
  const node = (get) => run("node", ["--input-type=commonjs", "--eval", script(get)], { cwd: project.folder });
  for (const entry of ["micro-yolo", "micro-yolo/small", "micro-yolo/inline"]) {
    for (const get of [`require("${entry}")`, `await import("${entry}")`]) {
      const { stdout, stderr } = await node(get);
      assert.deepEqual([stdout, stderr], ["cat unsupported\n", ""], get);
    }
  }
  const other = join(project.folder, "a folder, 100 % odd #1");
  await cp(project.home, other, { recursive: true });
  const { stdout } = await node(`await import(${JSON.stringify(pathToFileURL(join(other, "index.js")).href)})`);
  assert.equal(stdout, "cat unsupported\n");
  await rm(join(other, "wasm/micro-yolo-int8.onnx"));
  const missing = await node(`await import(${JSON.stringify(pathToFileURL(join(other, "small.js")).href)})`).catch(({ stderr }) => stderr);
  assert.match(missing, /^MicroYoloError: file:.*micro-yolo-int8\.onnx could not be read.*code: 'network'/ms);
  await rm(other, { recursive: true });
  // A model that the plain engine does not run brings in the full one, or says that there is none.
  const foreign = JSON.stringify(join(ROOT, "tests/e2e/fixtures/red-spot.onnx"));
  const load = (entry) => `require("${entry}").Detector.load({ model: require("node:fs").readFileSync(${foreign}) }).then(({ labels }) => labels[0], ({ code }) => code).then(console.log)`;
  for (const [entry, said] of [["micro-yolo", "red spot"], ["micro-yolo/inline", "needs-tract"]]) {
    const { stdout } = await run("node", ["--input-type=commonjs", "--eval", load(entry)], { cwd: project.folder });
    assert.equal(stdout, `${said}\n`, entry);
  }
});

test("what the package's README says of Node runs as it stands there", async () => {
  const readme = await readFile(join(ROOT, "pkg/README.md"), "utf8");
  const section = readme.slice(readme.indexOf("\n## Node, Jest, Vitest\n"), readme.indexOf("\n## Browsers\n"));
  const pieces = [...section.matchAll(/^```js\n(.*?)^```$/gms)].map((match) => match[1]);
  assert.equal(pieces.length, 2);
  await cp(join(ROOT, "models/micro-yolo-s-int8.onnx"), join(project.folder, "my-model.onnx"));
  await cp(join(ROOT, "data/samples/cat.jpg"), join(project.folder, "photo.jpg"));
  await cp(dirname(createRequire(import.meta.url).resolve("jpeg-js/package.json")), join(project.folder, "node_modules/jpeg-js"), { recursive: true });
  for (const [at, piece] of pieces.entries()) {
    const script = `${piece}console.log(detector.labels[15]);`;
    const { stdout, stderr } = await run("node", ["--input-type=module", "--eval", script], { cwd: project.folder });
    assert.equal(stderr, "");
    assert.match(stdout, at === 0 ? /label: 'cat'[^]*\ncat\n$/ : /^cat\n$/);
  }
});

test("servers that copy only what is needed copy engines and model", async () => {
  // The tracer of Next, Nuxt's server, SolidStart and Vercel.
  const { nodeFileTrace } = createRequire(import.meta.url)("next/dist/compiled/@vercel/nft");
  for (const [entry, count] of Object.entries({ "index.js": 5, "index.cjs": 5, "small.js": 3, "small.cjs": 3 })) {
    const { fileList } = await nodeFileTrace([join(project.home, entry)], { base: project.home });
    const wasm = [...fileList].filter((path) => path.endsWith(".wasm"));
    assert.equal(wasm.length, count, `${entry}: ${wasm}`);
    assert.ok(fileList.has("wasm/micro-yolo-int8.onnx"), entry);
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
  await writeFile(
    join(project.folder, "common.cts"),
    `import { Detector, type DetectedObject } from "micro-yolo";
     import inline = require("micro-yolo/inline");
     import small = require("micro-yolo/small");
     import type { MicroYoloElement } from "micro-yolo/element";
     export const others: Promise<Detector>[] = [inline.Detector.load(), small.Detector.load()];
     export const main = async (element: MicroYoloElement): Promise<readonly DetectedObject[]> => element.objects;`,
  );
  // What is left out may be `undefined`, also where a project tells the two apart.
  await writeFile(
    join(project.folder, "exact.mts"),
    `import { Detector, type LoadOptions } from "micro-yolo";
     import { drawObjects, type DrawOptions } from "micro-yolo/draw";
     export async function main(canvas: HTMLCanvasElement, video: HTMLVideoElement, signal?: AbortSignal) {
       const nothing = undefined;
       const load: LoadOptions = {
         model: nothing, wasm: nothing, inputSize: nothing, worker: nothing, threads: nothing, sha256: nothing, signal,
         onProgress: nothing, limits: { memoryBytes: nothing, nodes: nothing, macs: nothing },
         scoreThreshold: nothing, iouThreshold: nothing, maxDetections: nothing, classes: nothing,
       };
       const draw: DrawOptions = {
         width: 1, height: 1, fit: nothing, mirror: nothing, label: nothing, color: nothing, lineWidth: nothing,
         font: nothing, pixelRatio: nothing,
       };
       const detector = await Detector.load(load);
       const box = { x: 0, y: 0, width: 1, height: 1 };
       drawObjects(canvas, [{ label: "mine", classId: 0, score: 1, box, trackId: nothing }], draw);
       drawObjects(canvas, await detector.detect(canvas, { signal, transfer: nothing }), draw);
       return detector.watch(video, { signal, track: nothing });
     }`,
  );
  // What the READMEs show in JavaScript, in the strict TypeScript of Vite's templates.
  const shown = [];
  for (const [path, count] of [["README.md", 2], ["pkg/README.md", 1]]) {
    const pieces = (await readFile(join(ROOT, path), "utf8")).matchAll(/^```js\n(.*?)^```$/gms);
    for (const [, code] of [...pieces].slice(0, count)) {
      shown.push(`readme-${shown.length}.mts`);
      await writeFile(join(project.folder, shown.at(-1)), code);
    }
  }
  for (const [module, moduleResolution] of [
    ["esnext", "bundler"],
    ["nodenext", "nodenext"],
  ]) {
    await run(
      join(ROOT, "node_modules/.bin/tsc"),
      ["--noEmit", "--strict", "--target", "es2022", "--module", module, "--moduleResolution", moduleResolution]
        .concat(["--lib", "es2021,dom,dom.iterable,dom.asynciterable", "--skipLibCheck", "false", "--exactOptionalPropertyTypes"])
        .concat(["--types", "", "typed.mts", "exact.mts", ...shown])
        .concat(module === "nodenext" ? ["common.cts"] : []),
      { cwd: project.folder },
    ).catch((error) => assert.fail(`${moduleResolution}: ${error.stdout}`));
  }
});

test("the element has types in JSX, by what the package's README says, without DOM in `lib`", async () => {
  const readme = await readFile(join(ROOT, "pkg/README.md"), "utf8");
  await writeFile(join(project.folder, "declared.tsx"), /^```tsx\n(.*?)^```$/ms.exec(readme)[1]);
  await writeFile(
    join(project.folder, "used.tsx"),
    `import type { RefObject } from "react";
     import type { MicroYoloElement } from "micro-yolo/element";
     export const used = (ref: RefObject<MicroYoloElement | null>) => (
       <micro-yolo ref={ref} className="cat" score-threshold={0.4} input-size="320" track=""><img src="cat.jpg" alt="" /></micro-yolo>
     );
     // @ts-expect-error
     export const wrong = <micro-yolo classes={3} />;`,
  );
  await mkdir(join(project.folder, "node_modules/@types"), { recursive: true });
  await symlink(join(ROOT, "node_modules/@types/react"), join(project.folder, "node_modules/@types/react"));
  await run(
    join(ROOT, "node_modules/.bin/tsc"),
    ["--noEmit", "--strict", "--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler", "--jsx", "react-jsx"]
      .concat(["--lib", "es2022", "--skipLibCheck", "false", "--verbatimModuleSyntax", "--isolatedModules"])
      .concat(["--types", "react", "declared.tsx", "used.tsx"]),
    { cwd: project.folder },
  ).catch((error) => assert.fail(error.stdout));
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
