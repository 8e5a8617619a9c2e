// The examples, as they stand in examples/: each is built by its own command and finds the cat.
import assert from "node:assert/strict";
import { cp, mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { delimiter, join, parse } from "node:path";
import { after, before, test } from "node:test";
import { launchChromium, launchWithExtension } from "./lib/browsers.mjs";
import { installed, run } from "./lib/project.mjs";
import { ROOT, serve } from "./lib/server.mjs";

const CAT = join(ROOT, "data/samples/cat.jpg");
/** The bundlers of this repository, under the names by which the examples call them. */
const env = { ...process.env, PATH: [join(ROOT, "node_modules/.bin"), process.env.PATH].join(delimiter) };

let project, browser;
before(async () => {
  project = await installed();
  browser = await launchChromium();
});
after(async () => {
  await browser?.close();
  await project?.remove();
});

/** A copy of an example in the user's project. */
async function copy(name) {
  const root = join(project.folder, name);
  await cp(join(ROOT, "examples", name), root, { recursive: true });
  return root;
}

async function assertCat(folder) {
  const site = await serve({ mounts: { "/pkg/": project.home, "/": folder } });
  const page = await browser.newPage();
  try {
    await page.goto(site.url);
    await page.waitForFunction(() => document.querySelector("pre").textContent, { timeout: 60_000 });
    const [{ label }] = JSON.parse(await page.$eval("pre", (one) => one.textContent));
    assert.equal(label, "cat");
  } finally {
    await page.close();
    await site.close();
  }
}

test("plain", async () => {
  const root = await copy("plain");
  await cp(CAT, join(root, "cat.jpg"));
  const html = await readFile(join(root, "index.html"), "utf8");
  const local = html.replace("https://cdn.jsdelivr.net/npm/micro-yolo/", "/pkg/");
  assert.notEqual(local, html);
  await writeFile(join(root, "index.html"), local);
  await assertCat(root);
});

/** A copy of an example with the cat and with its framework, which is installed once, for the repository. */
async function withFrameworks(name) {
  const root = await copy(name);
  await mkdir(join(root, "public"), { recursive: true });
  await cp(CAT, join(root, "public/cat.jpg"));
  await mkdir(join(root, "node_modules/@vitejs"), { recursive: true });
  const { dependencies, devDependencies } = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
  for (const one of Object.keys({ ...dependencies, ...devDependencies })) {
    if (one !== "micro-yolo") await symlink(join(ROOT, "node_modules", one), join(root, "node_modules", one));
  }
  return root;
}

/** The component of the page in this folder names the cat, or says what is wrong with its picture, and keeps no worker. */
async function assertCaption(folder, { broken = false } = {}) {
  const site = await serve({ mounts: { "/": folder } });
  if (broken) site.route("/cat.jpg", (_, response) => response.writeHead(404).end());
  const page = await browser.newPage();
  try {
    await page.goto(site.url);
    await page.waitForFunction(() => document.querySelector("figcaption")?.textContent, { timeout: 60_000 });
    assert.match(await page.$eval("figcaption", (one) => one.textContent), broken ? /not a picture/ : /\bcat\b/);
    for (let tries = 0; page.workers().length > 0 && tries < 100; tries += 1) await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(page.workers().length, 0, "workers that are left");
  } finally {
    await page.close();
    await site.close();
  }
}

for (const name of ["vite", "webpack", "rollup", "esbuild"]) {
  test(name, async () => {
    const root = await copy(name);
    await cp(CAT, join(root, name === "vite" ? "public/cat.jpg" : "cat.jpg"));
    await run("npm", ["run", "build"], { cwd: root, env });
    await assertCat(name === "vite" ? join(root, "dist") : root);
  });
}

/** The component in the package's README is that of the example. */
const COMPONENTS = { react: ["jsx", "Objects.jsx"], vue: ["vue", "Objects.vue"] };

for (const [name, [language, file]] of Object.entries(COMPONENTS)) {
  test(name, async () => {
    const readme = await readFile(join(ROOT, "pkg/README.md"), "utf8");
    const component = await readFile(join(ROOT, "examples", name, file), "utf8");
    assert.ok(readme.includes(`\n\`\`\`${language}\n${component}\`\`\`\n`), `examples/${name}/${file} is another one than that of pkg/README.md`);
    const root = await withFrameworks(name);
    await run("npm", ["run", "build"], { cwd: root, env });
    await assertCaption(join(root, "dist"));
    await assertCaption(join(root, "dist"), { broken: true });
  });
}

test("next", async () => {
  const [plain, own] = await Promise.all(
    ["react/Objects.jsx", "next/app/Objects.jsx"].map((path) => readFile(join(ROOT, "examples", path), "utf8")),
  );
  assert.equal(own, `"use client";\n\n${plain}`, "the component of React, and one line more");
  const root = await withFrameworks("next");
  // Its links lead out of the project, where Turbopack looks at nothing by itself.
  const config = join(root, "next.config.js");
  const text = await readFile(config, "utf8");
  assert.ok(text.includes('output: "export"'));
  const anywhere = JSON.stringify(parse(ROOT).root);
  await writeFile(config, text.replace('output: "export"', `$&, turbopack: { root: ${anywhere} }`));
  await run("npm", ["run", "build"], { cwd: root, env: { ...env, NEXT_TELEMETRY_DISABLED: "1" } });
  // Rendered on the server: the picture is there before any script runs.
  assert.match(await readFile(join(root, "out/index.html"), "utf8"), /<img[^>]* src="cat.jpg"/);
  await assertCaption(join(root, "out"));
});

test("node", async () => {
  const root = await copy("node");
  await cp(CAT, join(root, "cat.jpg"));
  await cp(join(ROOT, "node_modules/jpeg-js"), join(root, "node_modules/jpeg-js"), { recursive: true });
  const { stdout } = await run("npm", ["start"], { cwd: root });
  assert.match(stdout, /label: 'cat'/);
});

test("extension", async (t) => {
  const root = await copy("extension");
  await cp(join(project.home, "inline.js"), join(root, "inline.js"));
  const site = await serve({ mounts: { "/": join(ROOT, "data/samples") } });
  site.route("/page.html", (_, response) =>
    response.writeHead(200, { "content-type": "text/html" }).end('<!doctype html><img src="cat.jpg">'),
  );
  const { browser } = await launchWithExtension(root);
  t.after(() => Promise.all([browser.close(), site.close()]));
  const page = await browser.newPage();
  // The extension was installed this moment: a page that comes too soon finds no background to ask, so it comes again.
  for (let left = 6; ; left -= 1) {
    await page.goto(`${site.url}page.html`);
    const seen = page.waitForFunction(() => document.querySelector("img").title === "cat", { timeout: 10_000 });
    if (await seen.then(() => true, (error) => left === 1 && Promise.reject(error))) return;
  }
});
