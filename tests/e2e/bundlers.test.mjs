// The package bundled as its users bundle it, without any configuration: by Vite 5 to 8 and their development servers,
// webpack, Rollup, esbuild and Parcel, under the address of the page and of a CDN. In each a browser finds the cat.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { cp, readFile, readdir, rm, stat } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import { join } from "node:path";
import { promisify } from "node:util";
import { launchChromium, launchFirefox } from "./lib/browsers.mjs";
import { html, installed, run, whatIsSeen } from "./lib/project.mjs";
import { ROOT, serve } from "./lib/server.mjs";

/**
 * What a user writes. Which entry is asked for by the page's address, so that one bundle serves for all; `Detector` is what
 * says it.
 */
const app = (Detector, options = "") => `
async function main() {
  const { Detector } = ${Detector};
  const detector = await Detector.load(${options});
  const image = new Image();
  image.src = "cat.jpg";
  await image.decode();
  const objects = await detector.detect(image);
  const labels = objects.map(({ label }) => label);
  document.title = [labels, "worker " + detector.worker, "threads " + detector.threads, detector.build].join("; ");
  detector.dispose();
}
main().catch((error) => (document.title = "failed: " + error.code + ": " + error.message));
`;
const ANY = app(
  `await { "": () => import("micro-yolo"), "#small": () => import("micro-yolo/small"), "#inline": () => import("micro-yolo/inline") }[location.hash]()`,
  "{ threads: 2 }",
);
const one = (entry, options) => `import { Detector as It } from "${entry}";${app("{ Detector: It }", options)}`;

const ISOLATED = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" };
const CDN = { "access-control-allow-origin": "*" };

let project, chromium, firefox;

before(async () => {
  project = await installed();
  chromium = await launchChromium();
});

after(async () => {
  await chromium?.close();
  await firefox?.close();
  await project?.remove();
});

/** What a page at this address says. */
async function seen(url, browser = chromium) {
  const page = await browser.newPage();
  try {
    return await whatIsSeen(page, url);
  } finally {
    await page.close();
  }
}

/** That a page finds the cat in a worker of its own. */
async function assertCat(url, { threads = 1 } = {}) {
  const title = await seen(url);
  assert.match(title, new RegExp(`\\bcat\\b.*; worker true; threads ${threads}; `), url);
  assert.match(title, threads > 1 ? /threads$/ : /relaxed-simd$/, "the fastest build");
}

/** Likewise in Firefox, once for each bundler: it starts workers and reads modules in ways of its own. */
async function assertCatInFirefox(url) {
  firefox ??= await launchFirefox();
  assert.match(await seen(url, firefox), /\bcat\b.*; worker true; /, url);
}

/** An app with the package in a folder of its own, as it is where it was installed. */
async function owner(name, files) {
  const root = await project.app(name, { "package.json": JSON.stringify({ name, type: "module" }), ...files });
  await cp(project.home, join(root, "node_modules/micro-yolo"), { recursive: true });
  return root;
}

async function served(t, folder, options = {}) {
  const site = await serve({ mounts: { "/deep/path/": folder }, ...options });
  t.after(() => site.close());
  return `${site.url}deep/path/`;
}

const extension = (names, wanted) => names.filter((name) => name.endsWith(wanted));

for (const version of [5, 6, 7, 8]) {
  describe(`Vite ${version}`, () => {
    let vite, root, common;
    before(async () => {
      vite = await import(version === 8 ? "vite" : `vite${version}`);
      assert.equal(vite.version.split(".")[0], String(version));
      root = await owner(`vite${version}`, { "index.html": html("/main.js"), "main.js": ANY });
      common = { root, logLevel: "error", configFile: false };
    });

    test("bundles every entry", async (t) => {
      await vite.build({ ...common, base: "./" });
      const assets = await readdir(join(root, "dist/assets"));
      // Nothing twice: the five engines, and one model.
      assert.equal(extension(assets, ".wasm").length, 5, String(assets));
      assert.equal(extension(assets, ".onnx").length, 1, String(assets));
      const url = await served(t, join(root, "dist"), { headers: ISOLATED });
      await assertCat(url, { threads: 2 });
      await assertCat(`${url}#small`, { threads: 2 });
      await assertCat(`${url}#inline`);
      if (version === 8) for (const entry of ["", "#inline"]) await assertCatInFirefox(`${url}${entry}`);
    });

    test("serves every entry in development", async (t) => {
      const server = await vite.createServer({ ...common, server: { port: 0, host: "127.0.0.1" } });
      t.after(() => server.close());
      await server.listen();
      const [url] = server.resolvedUrls.local;
      for (const entry of ["", "#small", "#inline"]) await assertCat(`${url}${entry}`);
    });

    test("bundles for a CDN", async (t) => {
      const cdn = await serve({ mounts: { "/": join(root, "cdn") }, headers: CDN });
      t.after(() => cdn.close());
      await vite.build({ ...common, base: cdn.url, build: { outDir: "cdn" } });
      await rm(join(root, "cdn/main.js"), { force: true });
      const site = await serve({ mounts: { "/": join(root, "cdn") } });
      t.after(() => site.close());
      for (const entry of ["", "#inline"]) await assertCat(`${site.url}${entry}`);
      assert.ok(!site.requests.some((path) => /\.(wasm|onnx|js)$/.test(path)), `all from the CDN: ${site.requests}`);
    });
  });
}

test("micro-yolo/small leaves the full engines out, and bundles are as large as the README says", async (t) => {
  const { build } = await import("vite");
  const readme = await readFile(join(ROOT, "pkg/README.md"), "utf8");
  for (const [entry, engines] of [["micro-yolo", 5], ["micro-yolo/small", 3]]) {
    const root = await owner(`size-${engines}`, { "index.html": html("/main.js"), "main.js": one(entry) });
    await build({ root, logLevel: "error", configFile: false, base: "./" });
    const assets = await readdir(join(root, "dist/assets"));
    assert.equal(extension(assets, ".wasm").length, engines, String(assets));
    const sizes = await Promise.all(assets.map(async (name) => (await stat(join(root, "dist/assets", name))).size));
    const megabytes = sizes.reduce((sum, size) => sum + size) / 1e6;
    const [, said] = new RegExp(`^\\| \`${entry}\` .*\\| ([\\d.]+) MB[^|]*\\|$`, "m").exec(readme);
    // Compilers differ a little.
    assert.ok(Math.abs(megabytes - Number(said)) < 0.015 * megabytes, `${entry}: ${megabytes} MB, and pkg/README.md says ${said}`);
    await assertCat(await served(t, join(root, "dist")));
  }
});

describe("webpack", () => {
  async function webpackIn(root, entry, output = {}) {
    const { default: webpack } = await import("webpack");
    const stats = await promisify(webpack)({
      mode: "production",
      context: root,
      entry,
      output: { path: join(root, "public"), filename: "main.js", ...output },
    });
    assert.ok(!stats.hasErrors(), stats.toString({ all: false, errors: true }));
  }

  async function bundle(name, code, output) {
    const root = await owner(name, { "main.js": code, "public/index.html": html("main.js") });
    await webpackIn(root, "./main.js", output);
    return join(root, "public");
  }

  test("bundles every entry", async (t) => {
    const url = await served(t, await bundle("webpack", ANY), { headers: ISOLATED });
    await assertCat(url, { threads: 2 });
    await assertCat(`${url}#small`, { threads: 2 });
    await assertCat(`${url}#inline`);
    for (const entry of ["", "#inline"]) await assertCatInFirefox(`${url}${entry}`);
  });

  test("bundles the modules for require() too", async (t) => {
    const root = await owner("webpack-require", { "main.cjs": app(`require("micro-yolo")`), "public/index.html": html("main.js") });
    await webpackIn(root, "./main.cjs");
    await assertCat(await served(t, join(root, "public")));
  });

  test("bundles for a CDN", async (t) => {
    const mounts = { "/": join(project.folder, "webpack-cdn/public") };
    const cdn = await serve({ mounts, headers: CDN });
    t.after(() => cdn.close());
    await bundle("webpack-cdn", one("micro-yolo"), { publicPath: cdn.url });
    const site = await serve({ mounts });
    t.after(() => site.close());
    await assertCat(site.url);
  });
});

/** What a page gets where the bundler leaves the package's files behind. */
async function assertHelpful(title) {
  assert.match(title, /^failed: (network|invalid-engine): .*wasm.*micro-yolo\/inline/);
}

describe("Rollup", () => {
  async function bundle(name, code, output) {
    const { rollup } = await import("rollup");
    const { nodeResolve } = await import("@rollup/plugin-node-resolve");
    const root = await owner(name, { "main.js": code, "public/index.html": html("main.js") });
    const made = await rollup({ input: join(root, "main.js"), plugins: [nodeResolve()], onwarn() {} });
    await made.write({ dir: join(root, "public"), format: "es", ...output });
    await made.close();
    return join(root, "public");
  }

  test("bundles micro-yolo/inline, as a module and as a classic script", async (t) => {
    const url = await served(t, await bundle("rollup-inline", one("micro-yolo/inline")));
    await assertCat(url);
    await assertCatInFirefox(url);
    const iife = await bundle("rollup-iife", one("micro-yolo/inline"), { format: "iife", inlineDynamicImports: true });
    await assertCat(await served(t, iife));
  });

  test("leaves the files of micro-yolo behind, which is said; beside the bundle they are found", async (t) => {
    const folder = await bundle("rollup", one("micro-yolo"));
    const url = await served(t, folder);
    await assertHelpful(await seen(url));
    await cp(project.home, folder, { recursive: true, filter: (path) => !/index\.(js|html)$/.test(path) });
    await assertCat(url);
  });
});

describe("esbuild", () => {
  async function bundle(name, code, options) {
    const { build } = await import("esbuild");
    const root = await owner(name, { "main.js": code, "public/index.html": html("main.js") });
    const common = { entryPoints: [join(root, "main.js")], bundle: true, logLevel: "silent" };
    await build({ ...common, format: "esm", outdir: join(root, "public"), ...options });
    return join(root, "public");
  }

  test("bundles micro-yolo/inline, as a module and as a classic script", async (t) => {
    await assertCat(await served(t, await bundle("esbuild-inline", one("micro-yolo/inline"), { minify: true })));
    const classic = await served(t, await bundle("esbuild-iife", one("micro-yolo/inline"), { format: "iife" }));
    await assertCat(classic);
    await assertCatInFirefox(classic);
    // The CommonJS of the package, which reads files, is for Node alone.
    await assertCat(await served(t, await bundle("esbuild-require", app(`require("micro-yolo/inline")`))));
  });

  test("leaves the files of micro-yolo behind, which is said; with the worker as a second entry they are found", async (t) => {
    for (const splitting of [false, true]) {
      const url = await served(t, await bundle(`esbuild-${splitting}`, one("micro-yolo"), { splitting }));
      await assertHelpful(await seen(url));
    }
    const entryPoints = { main: join(project.folder, "esbuild-entries/main.js"), worker: join(project.home, "worker.js") };
    const folder = await bundle("esbuild-entries", one("micro-yolo"), { entryPoints });
    await cp(join(project.home, "wasm"), join(folder, "wasm"), { recursive: true });
    const url = await served(t, folder);
    await assertCat(url);
    await assertCatInFirefox(url);
  });

  test("makes a classic script of micro-yolo, which has no address and says so, or takes the files by name", async (t) => {
    const alone = await served(t, await bundle("iife", one("micro-yolo"), { format: "iife" }));
    assert.match(await seen(alone), /^failed: unsupported: .*micro-yolo\/inline/);
    const named = `{ wasm: "wasm/micro_yolo_bg.wasm", model: "wasm/micro-yolo-int8.onnx" }`;
    const folder = await bundle("iife-named", one("micro-yolo", named), { format: "iife" });
    await cp(join(project.home, "wasm"), join(folder, "wasm"), { recursive: true });
    assert.match(await seen(await served(t, folder)), /\bcat\b.*; worker false; threads 1; simd128$/);
  });
});

describe("Parcel", () => {
  const program = join(ROOT, "tests/e2e/parcel/node_modules/parcel/lib/bin.js");

  test("bundles every entry", async (t) => {
    assert.ok(existsSync(program), "run `npm ci --prefix tests/e2e/parcel`, as `cargo xtask test` does");
    const root = await owner("parcel", { "index.html": html("./main.js"), "main.js": ANY });
    const args = ["build", "index.html", "--public-url", "./", "--no-cache", "--no-source-maps"];
    await run(process.execPath, [program, ...args], { cwd: root }).catch(({ stdout, stderr }) => assert.fail(`${stdout}${stderr}`));
    await cp(join(root, "public/cat.jpg"), join(root, "dist/cat.jpg"));
    const url = await served(t, join(root, "dist"), { headers: ISOLATED });
    await assertCat(url, { threads: 2 });
    await assertCat(`${url}#small`, { threads: 2 });
    await assertCat(`${url}#inline`);
    for (const entry of ["", "#inline"]) await assertCatInFirefox(`${url}${entry}`);
  });
});
