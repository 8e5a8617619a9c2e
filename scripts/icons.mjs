// Makes the page's icons as PNG from www/icon.svg, and the picture that others show beside a link to it. `node
// scripts/icons.mjs`; needs Chromium. The files are committed; run it again when the icon or the samples change.
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { launchChromium } from "../tests/e2e/lib/browsers.mjs";
import { ROOT } from "../tests/e2e/lib/server.mjs";

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
const browser = await launchChromium();
try {
  const page = await browser.newPage();
  for (const { file, size, ground = "transparent", scale = 1 } of ICONS) {
    await page.setViewportSize({ width: size, height: size });
    await page.setContent(
      `<style>html { background: ${ground} } body { margin: 0; height: 100vh; display: grid; place-items: center }</style>` +
        `<img src="${icon}" width="${size * scale}" height="${size * scale}">`,
    );
    await page.locator("img").evaluate((image) => image.decode());
    await writeFile(join(folder, file), await page.screenshot({ omitBackground: true }));
  }
  // 1200 × 630 is what link previews are cut from. Boxes as the detector gave them (docs/images).
  await page.setViewportSize({ width: 1200, height: 630 });
  const [cat, coffee] = await Promise.all(["cat", "astronaut"].map((name) => dataUrl(`docs/images/${name}.jpg`, "image/jpeg")));
  await page.setContent(`
    <style>
      body { margin: 0; height: 630px; box-sizing: border-box; padding: 60px; background: #121517; color: #e9eceb;
        font: 34px/1.35 system-ui, sans-serif; display: grid; grid-template-columns: 430px 1fr; gap: 50px; align-items: center }
      h1 { margin: 0 0 20px; font-size: 64px; letter-spacing: -0.02em; line-height: 1.1 } p { margin: 0 0 20px; color: #a0abad }
      strong { color: #6fe0c8; font-weight: 600 }
      div { display: grid; gap: 16px } div img { width: 100%; border-radius: 20px; object-fit: cover; height: 246px; object-position: 50% 15% }
    </style>
    <section><img src="${icon}" width="88"><h1>micro-yolo</h1><p>What is in the picture? Found in your browser.</p>
    <strong>Nothing leaves your machine.</strong></section>
    <div><img src="${cat}"><img src="${coffee}"></div>`);
  await page.evaluate(() => Promise.all([...document.images].map((image) => image.decode())));
  await writeFile(join(ROOT, "www/preview.jpg"), await page.screenshot({ type: "jpeg", quality: 85 }));
} finally {
  await browser.close();
}
