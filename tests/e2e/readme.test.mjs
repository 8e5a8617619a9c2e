// The JavaScript of README.md does what the text says, run as it stands there.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { launchChromium } from "./lib/browsers.mjs";
import { ROOT, serve } from "./lib/server.mjs";

const readme = await readFile(join(ROOT, "README.md"), "utf8");
const blocks = [...readme.matchAll(/^```js\n(.*?)^```$/gms)].map((match) => match[1]);

/** A page around `code`, where "micro-yolo" means the package, as a bundler or an import map makes it. */
const page = (body, code) => `<!doctype html><title>test</title>
<script type="importmap">{ "imports": { "micro-yolo": "/pkg/index.js", "micro-yolo/draw": "/pkg/draw.js" } }</script>
<body>${body}<script type="module">${code}</script>`;

async function inBrowser(body, code, look) {
  const site = await serve();
  const browser = await launchChromium();
  try {
    site.route("/readme.html", (_, response) =>
      response.writeHead(200, { "content-type": "text/html" }).end(page(body, code)),
    );
    const tab = await browser.newPage();
    const errors = [];
    tab.on("pageerror", (error) => errors.push(String(error)));
    await tab.goto(`${site.url}readme.html`);
    await look(tab);
    assert.deepEqual(errors, []);
  } finally {
    await browser.close();
    await site.close();
  }
}

test("README.md shows two pieces of JavaScript", () => assert.equal(blocks.length, 2));

test("a picture: the first piece finds the cat", async () => {
  await inBrowser(`<img src="/samples/cat.jpg">`, `${blocks[0]}\nglobalThis.found = objects;`, async (tab) => {
    await tab.waitForFunction(() => globalThis.found);
    const found = await tab.evaluate(() => globalThis.found);
    assert.equal(found[0]?.label, "cat", JSON.stringify(found));
    assert.deepEqual(Object.keys(found[0]).sort(), ["box", "classId", "label", "score"]);
  });
});

test("a video: the second piece draws on the canvas", async () => {
  // A video that shows the cat, made in the page: a canvas, captured, and repainted so that frames come.
  const start = `
    const picture = new Image();
    picture.src = "/samples/cat.jpg";
    await picture.decode();
    const screen = document.createElement("canvas");
    Object.assign(screen, { width: picture.naturalWidth, height: picture.naturalHeight });
    const context = screen.getContext("2d");
    setInterval(() => context.drawImage(picture, 0, 0), 50);
    document.querySelector("video").srcObject = screen.captureStream(20);
  `;
  const body = `<video muted autoplay></video><canvas style="width: 451px; height: 300px"></canvas>
    <script type="module">${start}</script>`;
  await inBrowser(body, blocks[1], async (tab) => {
    await tab.waitForFunction(
      () => {
        const canvas = document.querySelectorAll("canvas")[0];
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return data.some((value) => value > 0);
      },
      { timeout: 60_000, polling: 200 },
    );
  });
});
