// Boxes with labels on a canvas that lies over a picture, sharp at any pixel ratio. Types: draw.d.ts.

/** Degrees between the hues of neighbouring classes: the golden angle, which never repeats and keeps them apart. */
const GOLDEN_ANGLE = 137.508;

/**
 * The colour of a class: light enough for dark text on it, and as light as any other. `oklch(0.82 0.16 HUE)`, worked out
 * here: Chromium knows the notation since 111 only, and draws black where it does not.
 * @param {number} classId
 */
export function classColor(classId) {
  const hue = (((classId * GOLDEN_ANGLE + 145) % 360) * Math.PI) / 180;
  const a = 0.16 * Math.cos(hue);
  const b = 0.16 * Math.sin(hue);
  // OKLab to linear sRGB, with the matrices of CSS Color 4.
  const long = (0.82 + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const medium = (0.82 - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const short = (0.82 - 0.0894841775 * a - 1.291485548 * b) ** 3;
  const channels = [
    4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
    -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
    -0.0041960863 * long - 0.7034186147 * medium + 1.707614701 * short,
  ];
  return `rgb(${channels.map((one) => Math.round(255 * gamma(Math.min(1, Math.max(0, one))))).join(", ")})`;
}

/** @param {number} linear */
function gamma(linear) {
  return linear <= 0.0031308 ? 12.92 * linear : 1.055 * linear ** (1 / 2.4) - 0.055;
}

const TEXT = "#10151c";
const HALO = "rgba(0, 0, 0, 0.55)";

/** @param {import("./index.js").DetectedObject} object */
function defaultLabel({ label, score, trackId }) {
  const percent = `${label} ${Math.round(score * 100)} %`;
  return trackId === undefined ? percent : `#${trackId} ${percent}`;
}

/**
 * @param {HTMLCanvasElement | OffscreenCanvas} canvas
 * @param {readonly import("./index.js").DetectedObject[]} objects
 * @param {import("./draw.js").DrawOptions} options
 */
export function drawObjects(canvas, objects, options) {
  const { width, height, fit = "fill", mirror = false, label = defaultLabel } = options;
  const { color = (object) => classColor(object.classId), font = "600 13px system-ui, sans-serif" } = options;
  const ratio = fitToScreen(canvas, options.pixelRatio);
  const context = /** @type {CanvasRenderingContext2D | null} */ (canvas.getContext("2d"));
  if (!context) return;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!(width > 0 && height > 0)) return;

  const place = placement(canvas, width, height, fit);
  // Whole device pixels, so that straight lines have hard edges.
  const line = Math.max(1, Math.round((options.lineWidth ?? 2) * ratio));
  context.font = scaledFont(font, ratio);
  context.textBaseline = "middle";
  context.lineJoin = "round";

  // The surest last, so that it lies on top.
  for (const object of [...objects].sort((a, b) => a.score - b.score)) {
    const { box } = object;
    const left = place.x + (mirror ? width - box.x - box.width : box.x) * place.scaleX;
    const top = place.y + box.y * place.scaleY;
    const edges = {
      left: Math.round(left),
      top: Math.round(top),
      right: Math.round(left + box.width * place.scaleX),
      bottom: Math.round(top + box.height * place.scaleY),
    };
    const paint = color(object);
    strokeBox(context, edges, line, paint, ratio);
    drawLabel(context, label(object), edges, line, paint, ratio);
  }
}

/**
 * Gives the canvas one pixel for each pixel of the screen that it covers.
 * @param {HTMLCanvasElement | OffscreenCanvas} canvas
 * @param {number | undefined} pixelRatio
 */
function fitToScreen(canvas, pixelRatio) {
  if (!("clientWidth" in canvas)) return pixelRatio ?? 1;
  const ratio = pixelRatio ?? globalThis.devicePixelRatio ?? 1;
  const { clientWidth, clientHeight } = canvas;
  if (!clientWidth || !clientHeight) return ratio; // Not laid out: it keeps the size it has.
  const width = Math.round(clientWidth * ratio);
  const height = Math.round(clientHeight * ratio);
  if (canvas.width !== width) canvas.width = width; // Setting clears, even to the same value.
  if (canvas.height !== height) canvas.height = height;
  return ratio;
}

/**
 * Where the picture lies in the canvas, in canvas pixels, by the rules of CSS `object-fit`.
 * @param {{ width: number, height: number }} canvas
 * @param {number} width
 * @param {number} height
 * @param {"fill" | "contain" | "cover"} fit
 */
function placement(canvas, width, height, fit) {
  const scaleX = canvas.width / width;
  const scaleY = canvas.height / height;
  if (fit === "fill") return { x: 0, y: 0, scaleX, scaleY };
  const scale = fit === "contain" ? Math.min(scaleX, scaleY) : Math.max(scaleX, scaleY);
  return {
    x: (canvas.width - width * scale) / 2,
    y: (canvas.height - height * scale) / 2,
    scaleX: scale,
    scaleY: scale,
  };
}

/** @typedef {{ left: number, top: number, right: number, bottom: number }} Edges in canvas pixels */

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Edges} edges
 * @param {number} line
 * @param {string} paint
 * @param {number} ratio
 */
function strokeBox(context, edges, line, paint, ratio) {
  const width = edges.right - edges.left;
  const height = edges.bottom - edges.top;
  // A line of odd width is sharp when its middle lies between two pixels' edges.
  const shift = (line % 2) / 2;
  const halo = Math.max(1, Math.round(ratio));
  context.strokeStyle = HALO; // Seen on a background of the box's own colour.
  context.lineWidth = line + 2 * halo;
  context.strokeRect(edges.left + shift, edges.top + shift, width, height);
  context.strokeStyle = paint;
  context.lineWidth = line;
  context.strokeRect(edges.left + shift, edges.top + shift, width, height);
}

/**
 * Above the box where there is room, else inside at its top; always within the canvas.
 * @param {CanvasRenderingContext2D} context
 * @param {string} text
 * @param {Edges} edges
 * @param {number} line
 * @param {string} paint
 * @param {number} ratio
 */
function drawLabel(context, text, edges, line, paint, ratio) {
  if (!text) return;
  const padding = Math.round(5 * ratio);
  const { canvas } = context;
  const metrics = context.measureText(text);
  const height = Math.round((metrics.fontBoundingBoxAscent + metrics.fontBoundingBoxDescent) * 1.15 + padding / 2);
  const width = Math.ceil(metrics.width) + 2 * padding;
  const overhang = Math.floor(line / 2);
  const left = Math.max(0, Math.min(edges.left - overhang, canvas.width - width));
  const above = edges.top - overhang - height;
  const top = above >= 0 ? above : Math.max(0, edges.top - overhang);
  context.fillStyle = paint;
  context.beginPath();
  const corners = above >= 0 ? [3 * ratio, 3 * ratio, 3 * ratio, 0] : 3 * ratio;
  if (context.roundRect) context.roundRect(left, top, width, height, corners);
  else context.rect(left, top, width, height); // Chromium before 99, Firefox before 112.
  context.fill();
  context.fillStyle = TEXT;
  context.fillText(text, left + padding, top + height / 2 + ratio * 0.5);
}

/**
 * @param {string} font CSS, with its size in px
 * @param {number} ratio
 */
function scaledFont(font, ratio) {
  return font.replace(/([\d.]+)px/, (_, size) => `${Number(size) * ratio}px`);
}
