// The whole pages of the package's README, as they stand there: a picture, a video with boxes over it, a camera.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { join } from "node:path";
import { launchChromium } from "./lib/browsers.mjs";
import { ROOT, SITE, serve } from "./lib/server.mjs";
import { button } from "./lib/visitor.mjs";

const CDN = "https://cdn.jsdelivr.net/npm/micro-yolo/";
let site, browser, pages;

before(async () => {
  const readme = await readFile(join(ROOT, "pkg/README.md"), "utf8");
  const found = [...readme.matchAll(/^```html\n(<!doctype html>.*?)^```$/gms)].map(([, html]) => html);
  pages = Object.fromEntries(found.map((html) => [/<title>(\w+)</.exec(html)[1], html.replaceAll(CDN, "/pkg/")]));
  site = await serve({ mounts: { ...SITE, "/": "data/samples" } });
  site.route("/film.mp4", (_, response) => response.writeHead(302, { location: "/scenes/cat-film.mp4" }).end());
  browser = await launchChromium(["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]);
});
after(async () => {
  await browser?.close();
  await site?.close();
});

async function open(t, name, prepare = () => {}) {
  assert.ok(pages[name] && !pages[name].includes(CDN), name);
  site.route(`/${name}.html`, (_, response) => response.writeHead(200, { "content-type": "text/html" }).end(pages[name]));
  const page = await browser.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  t.after(async () => {
    await page.close();
    assert.deepEqual(errors, []);
  });
  await page.evaluateOnNewDocument(prepare);
  await page.goto(`${site.url}${name}.html`);
  return page;
}

test("the picture's page shows its cat", async (t) => {
  const page = await open(t, "Picture");
  await page.waitForFunction(() => document.querySelector("micro-yolo").objects?.[0]?.label === "cat", { timeout: 60_000 });
});

test("the video's page draws over the video", async (t) => {
  const page = await open(t, "Video");
  await page.waitForFunction(
    () => {
      const canvas = document.querySelector("canvas");
      return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value > 0);
    },
    { timeout: 60_000, polling: 200 },
  );
  const [video, canvas] = await page.evaluate(() =>
    ["video", "canvas"].map((one) => JSON.stringify(document.querySelector(one).getBoundingClientRect())),
  );
  assert.equal(canvas, video);
});

/** In the page: keeps the camera's streams where the test finds them. */
function keepStreams() {
  const { getUserMedia } = MediaDevices.prototype;
  globalThis.streams = [];
  MediaDevices.prototype.getUserMedia = async function (wanted) {
    const stream = await getUserMedia.call(this, wanted);
    globalThis.streams.push(stream);
    return stream;
  };
}

/** Every camera of the page is off, and every worker gone. */
async function assertNothingRuns(page, cameras) {
  const states = await page.evaluate(() => globalThis.streams.flatMap((one) => one.getTracks()).map(({ readyState }) => readyState));
  assert.deepEqual(states, Array(cameras).fill("ended"));
  for (let tries = 0; page.workers().length > 0 && tries < 100; tries += 1) await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(page.workers().length, 0);
}

test("the camera's page looks, and stops", async (t) => {
  const page = await open(t, "Camera", keepStreams);
  // Of the fake camera's picture anything may be seen.
  await page.waitForFunction(() => document.querySelector("p").textContent !== "Starting …", { timeout: 60_000 });
  await page.locator(button("Stop")).click();
  await page.waitForFunction(() => document.querySelector("p").textContent === "Stopped.", { timeout: 60_000 });
  await assertNothingRuns(page, 1);
});

test("the camera's page turns the camera off where nothing can be loaded", async (t) => {
  const model = "/pkg/wasm/micro-yolo-int8.onnx";
  site.route(model, (_, response) => response.writeHead(503).end());
  t.after(() => site.unroute(model));
  const page = await open(t, "Camera", keepStreams);
  await page.waitForFunction(() => /answered 503/.test(document.querySelector("p").textContent), { timeout: 60_000 });
  await assertNothingRuns(page, 1);
});

test("the camera's page keeps no detector where there is no camera", async (t) => {
  const page = await open(t, "Camera", () => {
    globalThis.streams = [];
    MediaDevices.prototype.getUserMedia = async () => {
      await new Promise((resolve) => setTimeout(resolve, 1000)); // As long as a visitor thinks; a detector is loaded by then.
      throw new DOMException("not allowed", "NotAllowedError");
    };
  });
  await page.waitForFunction(() => document.querySelector("p").textContent === "not allowed", { timeout: 60_000 });
  await assertNothingRuns(page, 0);
});
