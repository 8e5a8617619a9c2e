// Canvases for reading pixels, and a check that they return what was drawn. Firefox with `privacy.resistFingerprinting`
// returns noise, other browsers white. The detector would then never find anything, without any error.
import { MicroYoloError } from "./error.js";

/**
 * An element of HTML. In a document of XML or SVG, `createElement` makes none.
 * @template {keyof HTMLElementTagNameMap} Name
 * @param {Document} document
 * @param {Name} name
 */
export function newElement(document, name) {
  return /** @type {HTMLElementTagNameMap[Name]} */ (document.createElementNS("http://www.w3.org/1999/xhtml", name));
}

/**
 * @param {number} width
 * @param {number} height
 */
export function newCanvas(width, height) {
  if (typeof OffscreenCanvas === "function") return new OffscreenCanvas(width, height);
  if (typeof document === "object") return Object.assign(newElement(document, "canvas"), { width, height });
  throw new MicroYoloError("unsupported", "no canvas is available here (Node?): give pixels as { data, width, height }");
}

/** Number of rows that are read at once. */
const ROWS = 64;

/**
 * Whether a canvas is completely transparent. Most pictures have a pixel in the first rows.
 * @param {HTMLCanvasElement} canvas
 */
export function isBlank(canvas) {
  const { width, height } = canvas;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  for (let top = 0; top < height; top += ROWS) {
    const { data } = context.getImageData(0, top, width, Math.min(ROWS, height - top));
    if (new Uint32Array(data.buffer).some(Boolean)) return false;
  }
  return true;
}

const SIDE = 8;

/** Kept only once it is true: a visitor may allow reading pixels later. */
let honest = false;

/** Throws if pixels read from a canvas are not those that were drawn. */
export function checkReadback() {
  if (typeof OffscreenCanvas !== "function" && typeof document !== "object") return; // Node: pixels come from elsewhere.
  honest ||= isHonest(newCanvas(SIDE, SIDE));
  if (honest) return;
  throw new MicroYoloError(
    "unsupported",
    "this browser gives noise instead of a picture's pixels, as a protection against fingerprinting (in Firefox " +
      "`privacy.resistFingerprinting`): the visitor may allow this site to read canvases; pixels that come from no canvas " +
      "may be given as {data, width, height}",
  );
}

/** @param {OffscreenCanvas | HTMLCanvasElement} canvas */
function isHonest(canvas) {
  const context = /** @type {OffscreenCanvasRenderingContext2D | null} */ (canvas.getContext("2d", { willReadFrequently: true }));
  if (!context) return true; // The reader will report this error.
  const colors = [
    [200, 100, 50],
    [20, 150, 230],
  ];
  colors.forEach(([r, g, b], at) => {
    context.fillStyle = `rgb(${r}, ${g}, ${b})`;
    context.fillRect(0, (at * SIDE) / 2, SIDE, SIDE / 2);
  });
  const { data } = context.getImageData(0, 0, SIDE, SIDE);
  let difference = 0;
  for (let at = 0; at < data.length; at += 1) {
    const color = colors[at < data.length / 2 ? 0 : 1];
    if (at % 4 < 3) difference += Math.abs(data[at] - color[at % 4]);
  }
  // Colours may differ by one, and weaker protections change a few lowest bits.
  return difference / (SIDE * SIDE * 3) < 16;
}
