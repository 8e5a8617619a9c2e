// Makes the page's icons as PNG from www/icon.svg, and the picture that others show beside a link to it. `node
// scripts/icons.mjs`; needs Chromium and a built package (`cargo xtask build`), for the picture shows what the page finds. The
// files are committed; run it again when the icon, the first sample or the model changes.
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { launchChromium } from "../tests/e2e/lib/browsers.mjs";
import { ROOT, serve } from "../tests/e2e/lib/server.mjs";

/** A maskable icon is cut to any shape: its ground fills the square, and what matters lies in the middle four fifths. */
const ICONS = [
  { file: "icon-180.png", size: 180, ground: "#0f6f63" },
  { file: "icon-192.png", size: 192 },
  { file: "icon-512.png", size: 512 },
  { file: "maskable-512.png", size: 512, ground: "#0f6f63", scale: 0.8 },
];

const folder = join(ROOT, "www/icons");
await mkdir(folder, { recursive: true });
const dataUrl = async (path, type) => `data:${type};base64,${(await readFile(join(ROOT, path))).toString("base64")}`;
const icon = await dataUrl("www/icon.svg", "image/svg+xml");
const site = await serve();
const browser = await launchChromium();
try {
  const page = await browser.newPage();
  for (const { file, size, ground = "transparent", scale = 1 } of ICONS) {
    await page.setViewport({ width: size, height: size });
    await page.setContent(
      `<style>html { background: ${ground} } body { margin: 0; height: 100vh; display: grid; place-items: center }</style>` +
        `<img src="${icon}" width="${size * scale}" height="${size * scale}">`,
    );
    await page.$eval("img", (image) => image.decode());
    await writeFile(join(folder, file), await page.screenshot({ omitBackground: true }));
  }
  // What the page shows on arrival.
  await page.setViewport({ width: 1280, height: 800 });
  await page.goto(site.url);
  await page.waitForSelector("#list .label", { visible: true });
  const stage = await page.$("#stage");
  const shot = `data:image/png;base64,${await stage.screenshot({ encoding: "base64" })}`;
  // 1200 × 630 is what link previews are cut from.
  await page.goto("about:blank");
  await page.setViewport({ width: 1200, height: 630 });
  await page.setContent(`
    <style>
      body { margin: 0; height: 630px; box-sizing: border-box; padding: 50px; background: #121517; color: #e9eceb;
        font: 30px/1.35 system-ui, sans-serif; display: grid; grid-template-columns: 340px 1fr; gap: 40px; align-items: center }
      h1 { margin: 0 0 20px; font-size: 56px; letter-spacing: -0.02em; line-height: 1.1 } p { margin: 0 0 20px; color: #a0abad }
      strong { color: #6fe0c8; font-weight: 600 }
      .shot { width: 100%; border-radius: 20px }
    </style>
    <section><img src="${icon}" width="88"><h1>micro-yolo</h1><p>What is in the picture? Found in your browser.</p>
    <strong>Nothing leaves your machine.</strong></section>
    <img class="shot" src="${shot}">`);
  await page.evaluate(() => Promise.all([...document.images].map((image) => image.decode())));
  await writeFile(join(ROOT, "www/preview.jpg"), await page.screenshot({ type: "jpeg", quality: 85 }));
} finally {
  await browser.close();
  await site.close();
}
