// A short film for Chromium's fake camera, made from a photograph: it pans slowly across it.
import { readFile, writeFile } from "node:fs/promises";

const WIDTH = 640;
const HEIGHT = 480;
const FRAMES = 30;

/**
 * Writes a `.y4m` file (4:2:0, 30 frames a second).
 * @param {import("puppeteer-core").Browser} browser decodes the photograph
 * @param {string} photo
 * @param {string} path
 */
export async function writeClip(browser, photo, path) {
  const page = await browser.newPage();
  const base64 = (await readFile(photo)).toString("base64");
  const frames = await page.evaluate(
    async ({ base64, width, height, count }) => {
      const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
      const image = await createImageBitmap(new Blob([bytes]));
      const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
      const scale = Math.max(width / image.width, height / image.height);
      const room = { x: image.width * scale - width, y: image.height * scale - height };
      const frames = [];
      for (let frame = 0; frame < count; frame += 1) {
        const part = 0.5 - 0.5 * Math.cos((2 * Math.PI * frame) / count);
        context.drawImage(image, -room.x * part, -room.y * part, image.width * scale, image.height * scale);
        const { data } = context.getImageData(0, 0, width, height);
        // BT.601, limited range: what the fake camera expects.
        const planes = new Uint8Array((width * height * 3) / 2);
        let chroma = width * height;
        for (let y = 0; y < height; y += 1) {
          for (let x = 0; x < width; x += 1) {
            const [r, g, b] = data.subarray((y * width + x) * 4);
            planes[y * width + x] = 16 + 0.257 * r + 0.504 * g + 0.098 * b;
            if (x % 2 || y % 2) continue;
            planes[chroma] = 128 - 0.148 * r - 0.291 * g + 0.439 * b;
            planes[chroma + (width * height) / 4] = 128 + 0.439 * r - 0.368 * g - 0.071 * b;
            chroma += 1;
          }
        }
        let text = "";
        for (let at = 0; at < planes.length; at += 8192) text += String.fromCharCode(...planes.subarray(at, at + 8192));
        frames.push(btoa(text));
      }
      return frames;
    },
    { base64, width: WIDTH, height: HEIGHT, count: FRAMES },
  );
  await page.close();
  const parts = [Buffer.from(`YUV4MPEG2 W${WIDTH} H${HEIGHT} F30:1 Ip A1:1 C420jpeg\n`)];
  for (const frame of frames) parts.push(Buffer.from("FRAME\n"), Buffer.from(frame, "base64"));
  await writeFile(path, Buffer.concat(parts));
}
