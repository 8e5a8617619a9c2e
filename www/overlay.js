// Draws boxes over a picture with the package's drawObjects, and trails of tracks under them. Also makes canvases for
// saving.
import { contained } from "./layout.js";
import { drawObjects } from "./pkg/draw.js";

/**
 * @param {HTMLCanvasElement | OffscreenCanvas} canvas
 * @param {readonly import("./results.js").Settled[]} objects
 * @param {object} options
 * @param {number} options.width of the picture that boxes refer to
 * @param {number} options.height
 * @param {(object: { label: string }) => string} options.color
 * @param {boolean} [options.mirror]
 * @param {number} [options.pixelRatio]
 * @param {import("./results.js").Settled} [options.highlighted] the highlighted object
 * @param {readonly import("./trails.js").Trail[]} [options.trails]
 */
export function drawBoxes(canvas, objects, options) {
  drawObjects(canvas, objects, { ...options, fit: "contain" });
  const { width, height, color, mirror = false, trails = [], pixelRatio = globalThis.devicePixelRatio ?? 1 } = options;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  if (!(context && width > 0 && height > 0)) return;
  const area = contained(canvas, { width, height });
  const toCanvas = ({ x, y }) => ({ x: area.left + (mirror ? width - x : x) * area.scale, y: area.top + y * area.scale });
  context.globalCompositeOperation = "destination-over";
  for (const trail of trails) drawTrail(context, trail.points.map(toCanvas), color(trail), pixelRatio);
  context.globalCompositeOperation = "source-over";
}

/**
 * A line that becomes thinner towards its oldest point, on a darker line that is visible on bright pictures. It is
 * drawn behind the existing content, so what is on top comes first.
 * @param {CanvasRenderingContext2D} context
 * @param {readonly { x: number, y: number }[]} points the oldest first
 * @param {string} color
 * @param {number} ratio
 */
function drawTrail(context, points, color, ratio) {
  context.lineCap = "round";
  for (const [paint, wider] of /** @type {const} */ ([[color, 0], ["rgba(0, 0, 0, 0.55)", 2 * ratio]])) {
    context.strokeStyle = paint;
    for (let at = points.length - 1; at > 0; at -= 1) {
      context.globalAlpha = at / points.length;
      context.lineWidth = Math.max(1, (3 * ratio * at) / points.length) + wider;
      context.beginPath();
      context.moveTo(points[at - 1].x, points[at - 1].y);
      context.lineTo(points[at].x, points[at].y);
      context.stroke();
    }
  }
  context.globalAlpha = 1;
}

/**
 * A canvas for drawing. Not an OffscreenCanvas, which Firefox only has since 105.
 * @param {number} width
 * @param {number} height
 */
export const newCanvas = (width, height) => Object.assign(document.createElement("canvas"), { width, height });

/**
 * @param {HTMLCanvasElement} canvas
 * @returns {Promise<Blob>}
 */
export function toPng(canvas) {
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("the browser makes no PNG of this canvas"))), "image/png");
  });
}
