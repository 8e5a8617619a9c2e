// A visitor of the page: arriving, what is done, and what is seen.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { ROOT, TARGET } from "./server.mjs";

/** Screenshots for people to look at. */
export const SHOTS = join(TARGET, "e2e");
export const CAT = join(ROOT, "data/samples/cat.jpg");

/**
 * A fresh visitor of the page at `url`. Fails the test on any error in the console that is not expected.
 * @param {import("puppeteer-core").Browser} browser
 * @param {string} url
 * @param {import("node:test").TestContext} t
 * @param {object} [options]
 * @param {string} [options.path] behind the URL
 * @param {boolean} [options.expectErrors]
 * @param {import("puppeteer-core").Viewport} [options.viewport]
 * @param {Record<string, string>} [options.media] CSS media features and their values
 * @param {import("puppeteer-core").Permission[]} [options.permissions]
 */
export async function visitPage(browser, url, t, options = {}) {
  const { path = "", expectErrors = false, viewport = { width: 1200, height: 860 }, media = {}, permissions } = options;
  const context = await browser.createBrowserContext();
  if (permissions) await context.overridePermissions(new URL(url).origin, permissions);
  const page = await context.newPage();
  await page.setViewport(viewport);
  await page.emulateMediaFeatures(Object.entries(media).map(([name, value]) => ({ name, value })));
  // Each of several visitors has the focus.
  await page.emulateFocusedPage(true);
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => message.type() === "error" && errors.push(`${message.text()} ${message.location().url ?? ""}`));
  t.after(async () => {
    await context.close();
    if (!expectErrors) assert.deepEqual(errors, []);
  });
  await page.goto(url + path);
  return page;
}

/** Selectors of what assistive technology knows by this role and exactly this name. */
export const named = (role, name) => `::-p-aria([name="${name}"][role="${role}"])`;
export const button = (name) => named("button", name);

/** The text of the first such element, once there is one. */
export const text = (page, selector) => page.locator(selector).map((one) => one.textContent).wait();
export const texts = (page, selector) => page.$$eval(selector, (all) => all.map((one) => one.textContent));
export const attribute = (page, selector, name) => page.$eval(selector, (one, name) => one.getAttribute(name), name);
export const value = (page, selector) => page.$eval(selector, (one) => one.value);
/** Whether there is such an element, and it shows. */
export const isVisible = (page, selector) =>
  page.$$eval(selector, (all) => all.some((one) => one.checkVisibility({ visibilityProperty: true })));

/** Chooses files for the field with this selector. */
export const choose = async (page, selector, ...paths) => (await page.$(selector)).uploadFile(...paths);

/**
 * Does what has the page offer a file, and takes the file.
 * @param {import("puppeteer-core").Page} page
 * @param {string} folder for the file
 * @param {() => Promise<void>} work
 */
export async function downloaded(page, folder, work) {
  const session = await page.browser().target().createCDPSession();
  try {
    await session.send("Browser.setDownloadBehavior", {
      behavior: "allowAndName",
      browserContextId: page.browserContext().id,
      downloadPath: folder,
      eventsEnabled: true,
    });
    const file = new Promise((resolve, reject) => {
      let name;
      session.on("Browser.downloadWillBegin", ({ suggestedFilename }) => (name = suggestedFilename));
      session.on("Browser.downloadProgress", ({ guid, state }) => {
        if (state === "completed") resolve({ name, path: join(folder, guid) });
        if (state === "canceled") reject(new Error(`the download of ${name} was cancelled`));
      });
    });
    await work();
    const { name, path } = await file;
    return { name, bytes: await readFile(path) };
  } finally {
    await session.detach();
  }
}

export const labels = (page, list = "#list") => texts(page, `${list} .label`);
/** Once an object with this label, with or without a number, is in the list. */
export const sees = (page, label, list = "#list") =>
  page.waitForFunction(
    (selector, pattern) => [...document.querySelectorAll(selector)].some((one) => one.checkVisibility() && new RegExp(pattern).test(one.textContent)),
    { timeout: 60_000 },
    `${list} .label`,
    `^${label}( #\\d+)?$`,
  );
export const seesCat = (page) => sees(page, "cat");
/** Once the picture of this name is shown and looked at. */
export const looked = (page, name) =>
  page.waitForFunction(
    (name) => document.querySelector("#picture").alt === name && document.querySelector("#time").textContent !== "–",
    { timeout: 60_000 },
    name,
  );
/** Once a problem shows: its text. */
export const problem = async (page) => {
  await page.waitForSelector("#problem", { visible: true, timeout: 60_000 });
  return text(page, "#problem-text");
};
/** The page with the cat in it. */
export const CAT_PAGE = { path: "#sample=cat" };

/** How many pixels of the overlay are painted. */
export const painted = (page) =>
  page.evaluate(() => {
    const canvas = document.querySelector("#boxes");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return data.filter((value, index) => index % 4 === 3 && value > 0).length;
  });

/**
 * Has the page record a film of the cat, as other pages do, and pastes it: WebM whose length is written nowhere.
 * @param {import("puppeteer-core").Page} page
 */
export const pasteRecording = (page) =>
  page.evaluate(async () => {
    const cat = new Image();
    cat.src = "./samples/cat.jpg";
    await cat.decode();
    const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 240 });
    const context = canvas.getContext("2d");
    let frame = 0;
    const draw = () => context.drawImage(cat, -(frame++ % 30), 0, 360, 240);
    draw();
    const recorder = new MediaRecorder(canvas.captureStream(25), { mimeType: "video/webm" });
    const parts = [];
    recorder.ondataavailable = ({ data }) => parts.push(data);
    const stopped = new Promise((resolve) => (recorder.onstop = resolve));
    recorder.start();
    const timer = setInterval(draw, 40);
    await new Promise((resolve) => setTimeout(resolve, 1500));
    recorder.stop();
    await stopped;
    clearInterval(timer);
    const film = new File(parts, "recorded.webm", { type: "video/webm" });
    const clipboardData = new DataTransfer();
    clipboardData.items.add(film);
    document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
  });

/** Once the cat of a film is tracked, and is so when the film has begun anew. */
export async function playsAgain(page) {
  const isTracked = () => [...document.querySelectorAll("#list .label")].some((one) => /^cat #\d+$/.test(one.textContent));
  await page.waitForFunction(isTracked, { timeout: 60_000 });
  await page.evaluate(() => {
    const video = document.querySelector("video");
    let last = 0;
    globalThis.again = 0;
    const look = () => {
      if (video.currentTime < last) globalThis.again = 1;
      else setTimeout(look, 20);
      last = video.currentTime;
    };
    look();
  });
  await page.waitForFunction(() => globalThis.again, { timeout: 60_000 });
  await page.waitForFunction(isTracked, { timeout: 60_000 });
  assert.ok(await page.$eval("#problem", (one) => one.hidden));
}

/**
 * What the page saves, by any driver: for Firefox, Puppeteer does not tell of downloads.
 * @param {import("puppeteer-core").Page} page
 * @returns {Promise<[string, number, number]>} kind, width and height as the file says them
 */
export async function savedPng(page) {
  await page.evaluate(() => {
    const make = URL.createObjectURL;
    URL.createObjectURL = (blob) => {
      globalThis.saved = blob;
      URL.createObjectURL = make;
      return make(blob);
    };
    document.querySelector("#save").click();
  });
  await page.waitForFunction(() => globalThis.saved, { timeout: 30_000 });
  const head = Buffer.from(await page.evaluate(async () => [...new Uint8Array(await globalThis.saved.slice(0, 24).arrayBuffer())]));
  return [head.toString("latin1", 1, 4), head.readUInt32BE(16), head.readUInt32BE(20)];
}
