// Makes the samples of the page in data/samples/scenes from the three photographs beside it, which have free licences:
// cuts, reflections, collages, two films that pan across them, and a small picture of each sample. `node scripts/samples.mjs [FOLDER]`; needs Chromium, and
// ffmpeg for the films. The files are committed; run it again after a change here.
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { launchChromium } from "../tests/e2e/lib/browsers.mjs";
import { ROOT } from "../tests/e2e/lib/server.mjs";
import { SAMPLES } from "../www/samples.js";

const PHOTOS = { cat: [451, 300], coffee: [600, 400], astronaut: [512, 512] };

/**
 * A part of a photograph, `from` [x, y, width, height] in its pixels, put at `to` [x, y, width, height] of the scene.
 * @typedef {{ photo: keyof typeof PHOTOS, from?: number[], to: number[], flip?: boolean, filter?: string }} Piece
 * @type {Record<string, { size: [number, number], pieces: Piece[] }>}
 */
const SCENES = {
  "two-cups": {
    size: [900, 380],
    pieces: [
      { photo: "coffee", from: [60, 0, 430, 380], to: [0, 0, 430, 380] },
      { photo: "coffee", from: [60, 0, 430, 380], to: [470, 0, 430, 380], flip: true },
    ],
  },
  breakfast: {
    size: [860, 380],
    pieces: [
      { photo: "coffee", from: [30, 0, 480, 400], to: [0, 0, 456, 380] },
      { photo: "cat", from: [40, 0, 319, 300], to: [456, 0, 404, 380] },
    ],
  },
  "coffee-break": {
    size: [740, 400],
    pieces: [
      { photo: "coffee", from: [60, 0, 420, 400], to: [0, 0, 420, 400] },
      { photo: "astronaut", from: [60, 0, 320, 400], to: [420, 0, 320, 400] },
    ],
  },
  trio: {
    size: [870, 570],
    pieces: [
      { photo: "astronaut", from: [20, 0, 400, 400], to: [0, 0, 570, 570] },
      { photo: "cat", from: [40, 0, 300, 300], to: [590, 0, 280, 275] },
      { photo: "coffee", from: [60, 0, 410, 400], to: [590, 295, 280, 275] },
    ],
  },
  "four-squares": {
    size: [620, 620],
    pieces: [
      { photo: "cat", from: [40, 0, 300, 300], to: [0, 0, 300, 300] },
      { photo: "astronaut", from: [20, 0, 420, 420], to: [320, 0, 300, 300] },
      { photo: "coffee", from: [60, 0, 400, 400], to: [320, 320, 300, 300] },
      { photo: "cat", from: [40, 0, 300, 300], to: [0, 320, 300, 300], filter: "grayscale(1)", flip: true },
    ],
  },
  crew: {
    size: [900, 440],
    pieces: [
      { photo: "astronaut", from: [0, 0, 380, 512], to: [0, 0, 326, 440] },
      { photo: "astronaut", from: [0, 0, 380, 512], to: [326, 0, 248, 440], filter: "grayscale(1)" },
      { photo: "astronaut", from: [0, 0, 380, 512], to: [574, 0, 326, 440], flip: true },
    ],
  },
  "old-photograph": {
    size: [451, 300],
    pieces: [{ photo: "cat", to: [0, 0, 451, 300], filter: "sepia(0.9) contrast(0.9)" }],
  },
};

/** Films: a window of the photographs side by side that moves from one place to the other and back. */
const FILMS = {
  "cat-film": { size: [480, 320], strip: ["cat"], height: 340, seconds: 5, zoom: 1.12 },
  tour: { size: [480, 320], strip: ["astronaut", "cat", "coffee"], height: 330, seconds: 9, zoom: 1 },
};
const FRAMES_A_SECOND = 20;

/** Small pictures, twice as large as they are on the page: screens with dense pixels are common. */
const THUMB = [216, 136];

const to = process.argv[2] ?? join(ROOT, "data/samples/scenes");
const run = promisify(execFile);
const browser = await launchChromium();
const temporary = await mkdtemp(join(tmpdir(), "samples-"));
try {
  await mkdir(to, { recursive: true });
  const page = await browser.newPage();
  const photos = {};
  for (const name of Object.keys(PHOTOS)) photos[name] = (await readFile(join(ROOT, `data/samples/${name}.jpg`))).toString("base64");
  await page.evaluate(async (photos) => {
    const decode = (text) => createImageBitmap(new Blob([Uint8Array.from(atob(text), (char) => char.charCodeAt(0))]));
    window.photos = Object.fromEntries(await Promise.all(Object.entries(photos).map(async ([name, text]) => [name, await decode(text)])));
    window.jpeg = async (canvas, quality) => {
      const bytes = new Uint8Array(await (await canvas.convertToBlob({ type: "image/jpeg", quality })).arrayBuffer());
      let text = "";
      for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
      return btoa(text);
    };
    window.scene = ({ size: [width, height], pieces }) => {
      const canvas = new OffscreenCanvas(width, height);
      const context = canvas.getContext("2d");
      context.fillStyle = "#f4f1ea"; // Seen between the pictures of a collage.
      context.fillRect(0, 0, width, height);
      context.imageSmoothingQuality = "high";
      for (const { photo, from, to: [x, y, w, h], flip, filter = "none" } of pieces) {
        const image = window.photos[photo];
        const [sx, sy, sw, sh] = from ?? [0, 0, image.width, image.height];
        context.filter = filter;
        // Cut to its place, not squeezed into it.
        const scale = Math.max(w / sw, h / sh);
        const [cw, ch] = [w / scale, h / scale];
        context.setTransform(flip ? -1 : 1, 0, 0, 1, flip ? x + w : x, y);
        context.drawImage(image, sx + (sw - cw) / 2, sy + (sh - ch) / 2, cw, ch, 0, 0, w, h);
      }
      return window.jpeg(canvas, 0.82);
    };
    window.thumb = async (picture, [width, height]) => {
      const image = await decode(picture);
      const canvas = new OffscreenCanvas(width, height);
      const context = canvas.getContext("2d");
      context.imageSmoothingQuality = "high";
      const scale = Math.max(width / image.width, height / image.height);
      const [w, h] = [image.width * scale, image.height * scale];
      context.drawImage(image, (width - w) / 2, (height - h) / 2, w, h);
      return window.jpeg(canvas, 0.75);
    };
    window.film = ({ size: [width, height], strip, height: tall, zoom }, part) => {
      const canvas = new OffscreenCanvas(width, height);
      const context = canvas.getContext("2d");
      context.imageSmoothingQuality = "high";
      const images = strip.map((name) => window.photos[name]);
      const widths = images.map((image) => (image.width * tall) / image.height);
      const whole = widths.reduce((sum, one) => sum + one, 0);
      const smooth = 0.5 - 0.5 * Math.cos(2 * Math.PI * part);
      const scale = 1 + (zoom - 1) * smooth;
      context.scale(scale, scale);
      context.translate(-(whole - width / scale) * smooth, -(tall - height / scale) * (0.5 + 0.5 * Math.sin(2 * Math.PI * part)));
      let x = 0;
      images.forEach((image, index) => {
        context.drawImage(image, x, 0, widths[index], tall);
        x += widths[index];
      });
      return window.jpeg(canvas, 0.95);
    };
  }, photos);
  const decoded = (base64) => Buffer.from(base64, "base64");
  for (const [name, scene] of Object.entries(SCENES)) {
    await writeFile(join(to, `${name}.jpg`), decoded(await page.evaluate((scene) => window.scene(scene), scene)));
  }
  await mkdir(join(to, "thumbs"), { recursive: true });
  for (const { id, file } of SAMPLES) {
    const still = async () => (await readFile(SCENES[id] ? join(to, `${id}.jpg`) : join(ROOT, "data/samples", file))).toString("base64");
    const picture = FILMS[id] ? await page.evaluate((film) => window.film(film, 0), FILMS[id]) : await still();
    const thumb = await page.evaluate(([picture, size]) => window.thumb(picture, size), [picture, THUMB]);
    await writeFile(join(to, "thumbs", `${id}.jpg`), decoded(thumb));
  }
  for (const [name, film] of Object.entries(FILMS)) {
    const count = film.seconds * FRAMES_A_SECOND;
    for (let at = 0; at < count; at += 1) {
      const frame = await page.evaluate(([film, part]) => window.film(film, part), [film, at / count]);
      await writeFile(join(temporary, `${String(at).padStart(4, "0")}.jpg`), decoded(frame));
    }
    const film264 = ["-c:v", "libx264", "-profile:v", "main", "-preset", "veryslow", "-crf", "27", "-pix_fmt", "yuv420p"];
    await run("ffmpeg", ["-y", "-loglevel", "error", "-framerate", String(FRAMES_A_SECOND), "-i", join(temporary, "%04d.jpg"), ...film264, "-movflags", "+faststart", "-an", join(to, `${name}.mp4`)]);
    for (let at = 0; at < count; at += 1) await rm(join(temporary, `${String(at).padStart(4, "0")}.jpg`));
  }
} finally {
  await rm(temporary, { recursive: true, force: true });
  await browser.close();
}
