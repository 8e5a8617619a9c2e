// A built site as an installed program: after the first visit the network is gone, and everything works.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { launchChromium, launchFirefox } from "./lib/browsers.mjs";
import { ROOT, TARGET, serve } from "./lib/server.mjs";
import { button, choose, isVisible, named, seesCat } from "./lib/visitor.mjs";

/** The site as `cargo xtask build --site` makes it, or one that was made before. */
async function builtSite() {
  if (process.env.MICRO_YOLO_SITE) return process.env.MICRO_YOLO_SITE;
  const [program, ...args] = process.env.XTASK ? [process.env.XTASK] : ["cargo", "run", "--quiet", "--package", "xtask", "--"];
  await promisify(execFile)(program, [...args, "build", "--site"], { cwd: ROOT, maxBuffer: 1 << 26 });
  return join(TARGET, "site");
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
    // YOLOv3-tiny does not know this cat, compressed or not.
    await page.locator(named("combobox", "Model")).fill("yolov3-tiny-int8");
    await page.waitForFunction(() => document.querySelector("#summary").textContent.startsWith("Nothing above"), { timeout: 60_000 });
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

  test("it can be installed, and each site of an origin by itself", async (t) => {
    // As of a user of GitHub Pages.
    const site = await serve({ mounts: { "/yolo/": folder, "/fork/": folder } });
    // Other contexts are incognito, where nothing can be installed.
    const page = await browser.defaultBrowserContext().newPage();
    t.after(() => Promise.all([page.close(), site.close()]));
    const session = await page.createCDPSession();
    for (const path of ["yolo/", "fork/"]) {
      const url = `${site.url}${path}`;
      await page.goto(url);
      // Asks for the icons, too. Headless Chromium has nothing to object to either.
      assert.deepEqual((await session.send("Page.getInstallabilityErrors")).installabilityErrors, [], path);
      const { url: address, errors, manifest } = await session.send("Page.getAppManifest");
      assert.deepEqual([address, errors], [`${url}manifest.webmanifest`, []]);
      assert.deepEqual([manifest.startUrl, manifest.scope, manifest.display], [url, url, "kStandalone"]);
      assert.equal((await session.send("Page.getAppId")).appId, url, "an id that a site shares with another would replace it");
    }
    // The answer is one: of another context it says what keeps it from being installed.
    const context = await browser.createBrowserContext();
    t.after(() => context.close());
    const incognito = await context.newPage();
    await incognito.goto(`${site.url}yolo/`);
    const refused = await (await incognito.createCDPSession()).send("Page.getInstallabilityErrors");
    assert.deepEqual(refused.installabilityErrors.map(({ errorId }) => errorId), ["in-incognito"]);
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

  test("each model that is used is kept, also by visitors who save data, and if the first one never came", async (t) => {
    const site = await serveSite();
    const context = await browser.createBrowserContext();
    t.after(() => Promise.all([context.close(), site.close().catch(() => {})]));
    const page = await context.newPage();
    await page.evaluateOnNewDocument(() => Object.defineProperty(navigator, "connection", { value: { saveData: true } }));
    const { release } = site.hold("/yolo/pkg/wasm/micro-yolo-int8.onnx");
    await page.goto(`${site.url}yolo/`);
    await page.waitForSelector("#loading", { visible: true });
    const model = page.locator(named("combobox", "Model"));
    for (const name of ["small-int8", "small-float"]) {
      await model.fill(name);
      await page.waitForFunction(() => document.querySelector("#build").textContent.startsWith("416"), { timeout: 60_000 });
      await seesCat(page);
      release();
    }
    await page.waitForFunction(() => /^Works offline with the model/.test(document.querySelector("#offline-state").textContent), { timeout: 60_000 });
    await page.waitForFunction(
      async (model) => {
        const hash = (await (await fetch("./service-worker.js")).text()).match(new RegExp(`"${model}": ?"(\\w+)"`))[1];
        return Boolean(await (await caches.open("micro-yolo")).match(`./content/${hash}`));
      },
      { timeout: 60_000, polling: 300 },
      "models/micro-yolo-s.onnx",
    );
    await site.close();
    await page.goto("about:blank");
    await page.goto(`${site.url}yolo/`);
    await page.waitForFunction(() => document.querySelector("#model").value === "small-float" && document.querySelector("#time").textContent !== "–", { timeout: 60_000 });
    assert.ok(!(await isVisible(page, "#problem")));
  });

  test("a version that one tab takes is offered in the others, and nothing of another site is thrown away", async (t) => {
    // Two sites of one origin, as of a user of GitHub Pages.
    const site = await serve({ mounts: { "/yolo/": folder, "/fork/": folder } });
    const context = await browser.createBrowserContext();
    t.after(() => Promise.all([context.close(), site.close().catch(() => {})]));
    const [page, other, fork] = await Promise.all([1, 2, 3].map(() => context.newPage()));
    for (const [tab, path] of [[fork, "fork/"], [page, "yolo/"], [other, "yolo/"]]) {
      // Each megabyte costs these visitors something, so no more is kept than is needed.
      await tab.evaluateOnNewDocument(() => Object.defineProperty(navigator, "connection", { value: { saveData: true } }));
      await tab.bringToFront();
      await tab.goto(`${site.url}${path}`);
      await tab.waitForFunction(() => /^Works offline with the model/.test(document.querySelector("#offline-state").textContent), { timeout: 60_000 });
    }
    const keptOf = (name) => page.evaluate(async (name) => (await (await caches.open("micro-yolo")).keys()).filter(({ url }) => url.includes(name)).length, name);
    const before = [await keptOf("/yolo/content/"), await keptOf("/fork/content/")];
    assert.ok(Math.min(...before) > 0, before.join());
    const words = `${await readFile(join(folder, "words.js"), "utf8")}\n// Another version.\n`;
    const digest = Buffer.from(await crypto.subtle.digest("SHA-256", Buffer.from(words))).toString("hex").slice(0, 32);
    const worker = (await readFile(join(folder, "service-worker.js"), "utf8")).replace(/("words\.js": ?)"[0-9a-f]{32}"/, `$1"${digest}"`);
    const script = (path, text) => site.route(path, (_, response) => response.writeHead(200, { "content-type": "text/javascript" }).end(text));
    script("/yolo/service-worker.js", worker);
    // The connection is lost in the middle: the version before stays whole, and the next try takes the new one.
    site.route("/yolo/words.js", (_, response) => response.writeHead(200, { "content-length": words.length }).write("//") && response.destroy());
    const update = () => page.evaluate(async () => void (await (await navigator.serviceWorker.ready).update().catch(() => {})));
    await page.bringToFront();
    await update();
    await page.waitForFunction(async () => !(await navigator.serviceWorker.ready).installing);
    assert.ok(!(await isVisible(page, "#update")));
    await page.reload();
    await page.waitForSelector("#list .label", { visible: true, timeout: 60_000 });
    script("/yolo/words.js", words);
    await update();
    // A hidden tab paints nothing, so it is asked from time to time.
    const polling = 100;
    const offered = (tab) => tab.waitForFunction(() => !document.querySelector("#update").hidden, { polling, timeout: 30_000 });
    await Promise.all([page, other].map(offered));
    await page.evaluate(() => document.querySelector("#update-now").click());
    const fresh = (tab) => tab.waitForFunction(async () => (await (await fetch("./words.js")).text()).includes("Another version"), { polling, timeout: 30_000 });
    const reloaded = (tab) => tab.waitForFunction(() => document.querySelector("#update")?.hidden, { polling, timeout: 30_000 });
    await reloaded(page);
    await fresh(page);
    await other.bringToFront();
    assert.ok(await isVisible(other, "#update"));
    await other.evaluate(() => document.querySelector("#update-now").click());
    await reloaded(other);
    await other.waitForSelector("#list .label", { visible: true, timeout: 60_000 });
    assert.deepEqual([await keptOf("/yolo/content/"), await keptOf("/fork/content/")], before, "of the old version nothing, of the other site all");
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
