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

async function open(t, name) {
  assert.ok(pages[name] && !pages[name].includes(CDN), name);
  site.route(`/${name}.html`, (_, response) => response.writeHead(200, { "content-type": "text/html" }).end(pages[name]));
  const page = await browser.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  t.after(async () => {
    await page.close();
    assert.deepEqual(errors, []);
  });
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

test("the camera's page looks, and stops", async (t) => {
  const page = await open(t, "Camera");
  // Of the fake camera's picture anything may be seen.
  await page.waitForFunction(() => document.querySelector("p").textContent !== "Starting …", { timeout: 60_000 });
  await page.locator(button("Stop")).click();
  await page.waitForFunction(() => document.querySelector("p").textContent === "Stopped.", { timeout: 60_000 });
});
