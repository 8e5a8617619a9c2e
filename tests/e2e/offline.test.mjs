// A built site as an installed program: after the first visit the network is gone, and everything works.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { launchChromium, launchFirefox } from "./lib/browsers.mjs";
import { ROOT, serve } from "./lib/server.mjs";
import { button, choose, isVisible, named, seesCat } from "./lib/visitor.mjs";

/** The site as `cargo xtask build --site` makes it, or one that was made before. */
async function builtSite() {
  if (process.env.MICRO_YOLO_SITE) return process.env.MICRO_YOLO_SITE;
  const [program, ...args] = process.env.XTASK ? [process.env.XTASK] : ["cargo", "run", "--quiet", "--package", "xtask", "--"];
  await promisify(execFile)(program, [...args, "build", "--site"], { cwd: ROOT, maxBuffer: 1 << 26 });
  return join(ROOT, "target/site");
}

let folder;
before(async () => {
  folder = await builtSite();
});

/** Below a folder, as on hosts that many projects share. */
const serveSite = () => serve({ mounts: { "/yolo/": folder } });

/** What the page says once all is kept. */
const KEPT = "Works offline, with all models.";
const kept = (page) =>
  page.waitForFunction((kept) => document.querySelector("#offline-state").textContent === kept, { timeout: 60_000 }, KEPT);

describe("offline in chromium", () => {
  let browser;
  before(async () => {
    browser = await launchChromium();
  });
  after(async () => await browser?.close());

  test("after one visit everything works without a network", async (t) => {
    const site = await serveSite();
    const context = await browser.createBrowserContext();
    t.after(() => Promise.all([context.close(), site.close().catch(() => {})]));
    const page = await context.newPage();
    const errors = [];
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("console", (message) => ["error", "warn"].includes(message.type()) && errors.push(message.text()));
    await page.goto(`${site.url}yolo/`);
    await kept(page);
    // Nothing twice, beyond what the page itself had fetched; and no engine that this browser does not run.
    const engines = new Set(site.requests.filter((path) => path.endsWith(".wasm")));
    assert.ok(engines.size <= 2, [...engines].join());
    assert.ok(!site.requests.some((path) => path.endsWith(".d.ts")), "no types");

    const asked = site.requests.length;
    await site.close();
    await page.reload();
    await seesCat(page);
    await page.locator(button("Video: tour")).click();
    await page.waitForFunction(() => document.querySelector("#stage").dataset.showing === "video");
    await seesCat(page);
    await page.locator(button("Cat")).click();
    for (const model of ["small-float", "small-int8", "large-float"]) {
      await page.locator(named("combobox", "Model")).fill(model);
      await page.waitForFunction(() => document.querySelector("#build").textContent.startsWith("416"), { timeout: 60_000 });
      await seesCat(page);
    }
    // A model that needs the full engine.
    await choose(page, "#model-file", join(ROOT, "tests/e2e/fixtures/red-spot.onnx"));
    await page.waitForFunction(() => document.querySelector("#build").textContent.startsWith("160"), { timeout: 60_000 });
    // A document, and the page under its other address.
    assert.equal((await page.goto(`${site.url}yolo/models/README.md`)).status(), 200);
    await page.goto(`${site.url}yolo/index.html?from=home#sample=cat`);
    await seesCat(page);
    assert.equal(site.requests.length, asked);
    assert.deepEqual(errors.filter((error) => !/ERR_CONNECTION_REFUSED|service.?worker|update/i.test(error)), []);
  });

  test("a new version is offered, and only what changed is fetched", async (t) => {
    const site = await serveSite();
    const context = await browser.createBrowserContext();
    t.after(() => Promise.all([context.close(), site.close().catch(() => {})]));
    const page = await context.newPage();
    await page.goto(`${site.url}yolo/`);
    await kept(page);
    // Another version: one file and its hash are other ones.
    const css = `${await readFile(join(folder, "style.css"), "utf8")}\nh1 { letter-spacing: 7px }\n`;
    const digest = Buffer.from(await crypto.subtle.digest("SHA-256", Buffer.from(css))).toString("hex").slice(0, 32);
    const worker = (await readFile(join(folder, "service-worker.js"), "utf8")).replace(/("style\.css": ?)"[0-9a-f]{32}"/, `$1"${digest}"`);
    assert.ok(worker.includes(digest));
    let text = worker.replace(digest, "0".repeat(32));
    site.route("/yolo/service-worker.js", (_, response) => response.writeHead(200, { "content-type": "text/javascript" }).end(text));
    const style = (content) => site.route("/yolo/style.css", (_, response) => response.writeHead(200, { "content-type": "text/css" }).end(content));
    style(css);
    // A file that is not what the list says, as in a deployment that is half done: the version before stays.
    const update = () => page.evaluate(async () => void (await (await navigator.serviceWorker.ready).update().catch(() => {})));
    await update();
    await sleep(500);
    assert.ok(!(await isVisible(page, "#update")));
    await page.reload();
    await page.waitForSelector("#list .label", { visible: true, timeout: 60_000 });
    text = worker;
    const asked = site.requests.length;
    await update();
    await page.waitForSelector("#update", { visible: true, timeout: 30_000 });
    assert.deepEqual(new Set(site.requests.slice(asked)), new Set(["/yolo/service-worker.js", "/yolo/style.css"]));
    await page.locator(button("Reload")).click();
    await page.waitForFunction(() => getComputedStyle(document.querySelector("h1")).letterSpacing === "7px", { timeout: 30_000 });
  });

  test("films are answered in parts", async (t) => {
    const site = await serveSite();
    const context = await browser.createBrowserContext();
    t.after(() => Promise.all([context.close(), site.close().catch(() => {})]));
    const page = await context.newPage();
    await page.goto(`${site.url}yolo/`);
    await kept(page);
    const film = await readFile(join(folder, "samples/scenes/tour.mp4"));
    const ask = (range) =>
      page.evaluate(async (range) => {
        const response = await fetch("./samples/scenes/tour.mp4", { headers: { range } });
        return { status: response.status, range: response.headers.get("content-range"), length: (await response.arrayBuffer()).byteLength };
      }, range);
    assert.deepEqual(await ask("bytes=100-199"), { status: 206, range: `bytes 100-199/${film.length}`, length: 100 });
    assert.deepEqual(await ask(`bytes=${film.length - 5}-`), { status: 206, range: `bytes ${film.length - 5}-${film.length - 1}/${film.length}`, length: 5 });
    assert.equal((await ask(`bytes=${film.length}-`)).status, 416);
  });

  test("a page that is worked on keeps nothing, and frees an address that a built site had", async (t) => {
    const site = await serveSite();
    const context = await browser.createBrowserContext();
    t.after(() => Promise.all([context.close(), site.close().catch(() => {})]));
    const page = await context.newPage();
    await page.goto(`${site.url}yolo/`);
    await kept(page);
    const build = await readFile(join(ROOT, "www/build.js"));
    site.route("/yolo/build.js", (_, response) => response.writeHead(200, { "content-type": "text/javascript" }).end(build));
    // As its server would answer: without the kept files.
    await page.evaluate(async () => {
      const { OFFLINE } = await import("./build.js");
      const cache = await caches.open("micro-yolo");
      for (const request of await cache.keys()) await cache.delete(request);
      return OFFLINE;
    });
    await page.reload();
    await page.waitForSelector("#list .label", { visible: true, timeout: 60_000 });
    await page.waitForFunction(async () => (await navigator.serviceWorker.getRegistrations()).length === 0);
  });
});

describe("offline in firefox", () => {
  test("after one visit the page works without a network", async () => {
    const browser = await launchFirefox();
    const own = await serve({ mounts: { "/": folder } });
    try {
      const page = await browser.newPage();
      await page.goto(own.url);
      await kept(page);
      await own.close();
      await page.reload();
      await seesCat(page);
      await page.select("#model", "small-int8");
      await page.waitForFunction(() => document.querySelector("#build").textContent.startsWith("416"), { timeout: 60_000 });
      await seesCat(page);
    } finally {
      await browser.close();
      await own.close().catch(() => {});
    }
  });
});
