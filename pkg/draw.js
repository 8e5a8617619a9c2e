// Draws boxes with labels on a canvas over a picture, sharp at any pixel ratio. Types: draw.d.ts.
import { MicroYoloError, given } from "./error.js";
import { placeLabels } from "./labels.js";

/** Degrees between the hues of neighbouring classes: the golden angle, which never repeats and gives distant hues. */
const GOLDEN_ANGLE = 137.508;

/**
 * The colour of a class. All have the same lightness, and dark text is readable on them. It is `oklch(0.82 0.16 HUE)`,
 * converted here: Chromium before 111 does not support the notation and draws black.
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

/** Light enough for dark text. Neighbours in the list have very different hues. */
const PALETTE = [
  "#7ee081", // green
  "#ffb14a", // orange
  "#7cc4ff", // blue
  "#ff8fb8", // pink
  "#f5e663", // yellow
  "#c3a4ff", // violet
  "#5fe0d0", // turquoise
  "#ff9a85", // red
  "#c6e86a", // lime
  "#f0a6f5", // magenta
  "#97a3ff", // indigo
  "#e0c08c", // sand
];

/** Among the 80 hues of `classColor`, person, laptop and bowl are three greens. A picture shows only a few classes. */
export function createPalette() {
  /** @type {Map<string, string>} */
  const colors = new Map();
  return (/** @type {{ label: string }} */ { label }) => {
    const color = colors.get(label) ?? PALETTE[colors.size % PALETTE.length];
    colors.set(label, color);
    return color;
  };
}

/** The colours that are visible on a light colour and on a dark one: for text on it, and for an outline around it. */
const ON_LIGHT = { text: "#10151c", halo: "rgba(0, 0, 0, 0.55)" };
const ON_DARK = { text: "#fff", halo: "rgba(255, 255, 255, 0.55)" };
/** The maximum number of canvas pixels: Safari on a phone supports no more. */
const MOST_PIXELS = 2 ** 24;

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
  checkArguments(objects, options);
  const { width, height, fit = "fill", mirror = false, label = defaultLabel } = options;
  const { color = (object) => classColor(object.classId), font = "600 13px system-ui, sans-serif" } = options;
  const context = contextOf(canvas); // First, so that a canvas that it cannot draw on is left as it is.
  if (!context) return;
  const { width: pixelsX, height: pixelsY } = canvas;
  const ratio = fitToScreen(canvas, options.pixelRatio);
  context.setTransform(1, 0, 0, 1, 0, 0);
  // Setting another size has cleared it. When printing, Chromium (seen in 156) draws white where a call has cleared.
  if (canvas.width === pixelsX && canvas.height === pixelsY) context.clearRect(0, 0, canvas.width, canvas.height);
  if (!(width > 0 && height > 0)) return;

  const place = placement(canvas, width, height, fit, ratio);
  const line = Math.max(1, Math.round((options.lineWidth ?? 2) * ratio)); // Whole device pixels: straight lines have hard edges.
  const highlighted = objects.find((object) => object === options.highlighted);
  context.font = scaledFont(font, ratio);
  context.textAlign = "left";
  context.textBaseline = "middle";
  // The percent sign is on the right, also in a page with right-to-left text.
  context.direction = label === defaultLabel ? "ltr" : "inherit";
  context.lineJoin = "round";

  // The best one last, so that it is on top.
  const shown = [...objects].sort((a, b) => Number(a === highlighted) - Number(b === highlighted) || a.score - b.score);
  const labels = shown.map((object) => {
    const edges = edgesOf(object.box, place, canvas, line, mirror ? width : undefined);
    const isHighlighted = object === highlighted;
    const paint = color(object);
    const alpha = highlighted && !isHighlighted ? 0.5 : 1;
    context.globalAlpha = alpha;
    strokeBox(context, edges, isHighlighted ? 2 * line : line, paint, ratio);
    const rank = isHighlighted ? -1 : (object.trackId ?? Infinity);
    return { paint, alpha, rank, ...measured(context, String(label(object) ?? ""), edges, line, ratio) };
  });

  // Labels are drawn over all boxes. Those with the best scores are placed first. With tracks, those detected first are
  // placed first: scores change from frame to frame, and labels would swap places.
  const order = labels.filter(({ text }) => text).reverse();
  order.sort((a, b) => (a.rank === b.rank ? 0 : a.rank - b.rank));
  const places = placeLabels(order, canvas);
  for (const one of order.reverse()) {
    const rect = places.pop();
    if (rect) drawLabel(context, rect, one, ratio);
  }
  context.globalAlpha = 1;
}

/**
 * @param {unknown} objects
 * @param {unknown} options
 */
function checkArguments(objects, options) {
  if (!Array.isArray(objects)) {
    const hint = typeof Object(objects).then === "function" ? ": await detect()" : "";
    throw new MicroYoloError("invalid-option", `drawObjects() takes an array of objects, not ${given(objects)}${hint}`);
  }
  if (typeof options !== "object" || options === null) {
    throw new MicroYoloError("invalid-option", "drawObjects() needs the size of the picture, `{ width, height }`");
  }
}

/**
 * The context to draw with. A canvas without one would stay empty, without an error. Only where nothing can be drawn at
 * all, in a DOM for tests (jsdom), there is none.
 * @param {HTMLCanvasElement | OffscreenCanvas} canvas
 * @returns {CanvasRenderingContext2D | undefined}
 */
function contextOf(canvas) {
  if (typeof canvas?.getContext !== "function") {
    throw new MicroYoloError("invalid-option", `drawObjects() draws on a <canvas>, not ${given(canvas)}`);
  }
  let context;
  try {
    context = /** @type {CanvasRenderingContext2D | null} */ (canvas.getContext("2d"));
  } catch (cause) {
    throw new MicroYoloError("invalid-option", "the canvas was transferred to a worker: draw there", { cause });
  }
  if (context) return context;
  if (!("CanvasRenderingContext2D" in globalThis || "OffscreenCanvasRenderingContext2D" in globalThis)) return undefined;
  throw new MicroYoloError(
    "invalid-option",
    "the canvas has a context of another kind (WebGL, WebGPU, bitmaprenderer), and a canvas has only one: draw on another, over it",
  );
}

/**
 * Gives the canvas one pixel for each pixel of the screen that it covers.
 * @param {HTMLCanvasElement | OffscreenCanvas} canvas
 * @param {number | undefined} pixelRatio
 */
function fitToScreen(canvas, pixelRatio) {
  if (!("clientWidth" in canvas)) return pixelRatio ?? 1;
  const wanted = pixelRatio ?? (canvas.ownerDocument?.defaultView ?? globalThis).devicePixelRatio ?? 1;
  const { clientWidth, clientHeight, width: pixelsX, height: pixelsY } = canvas;
  if (!clientWidth || !clientHeight) return wanted; // Not laid out: it keeps the size it has.
  const ratio = Math.min(wanted, Math.sqrt(MOST_PIXELS / (clientWidth * clientHeight)));
  const resize = (/** @type {number} */ width, /** @type {number} */ height) => {
    if (canvas.width !== width) canvas.width = width; // Setting clears, even to the same value.
    if (canvas.height !== height) canvas.height = height;
  };
  resize(Math.round(clientWidth * ratio), Math.round(clientHeight * ratio));
  const follows = Math.abs(canvas.clientWidth - clientWidth) > 1 || Math.abs(canvas.clientHeight - clientHeight) > 1;
  if (follows) {
    // CSS gives the canvas no size, so its pixels do: with more of them it would grow at each call.
    resize(pixelsX, pixelsY);
    return pixelsX / clientWidth;
  }
  return ratio;
}

/**
 * Where the picture lies in the canvas, in canvas pixels, by the rules of CSS `object-fit`.
 * @param {{ width: number, height: number }} canvas
 * @param {number} width
 * @param {number} height
 * @param {NonNullable<import("./draw.js").DrawOptions["fit"]>} fit
 * @param {number} ratio canvas pixels for each pixel of CSS
 */
function placement(canvas, width, height, fit, ratio) {
  const scaleX = canvas.width / width;
  const scaleY = canvas.height / height;
  if (fit === "fill") return { x: 0, y: 0, scaleX, scaleY };
  const contain = Math.min(scaleX, scaleY);
  const cover = Math.max(scaleX, scaleY);
  // For any other value no boxes are drawn, rather than boxes in wrong places.
  const scale = { contain, cover, none: ratio, "scale-down": Math.min(ratio, contain) }[fit] ?? NaN;
  return {
    x: (canvas.width - width * scale) / 2,
    y: (canvas.height - height * scale) / 2,
    scaleX: scale,
    scaleY: scale,
  };
}

/** @typedef {{ left: number, top: number, right: number, bottom: number }} Edges in canvas pixels */

/**
 * @param {import("./index.js").Box} box
 * @param {ReturnType<typeof placement>} place
 * @param {{ width: number, height: number }} canvas
 * @param {number} line its width
 * @param {number | undefined} mirrored the width of a picture that is mirrored
 * @returns {Edges}
 */
function edgesOf(box, { x, y, scaleX, scaleY }, canvas, line, mirrored) {
  const left = x + (mirrored === undefined ? box.x : mirrored - box.x - box.width) * scaleX;
  const top = y + box.y * scaleY;
  const edges = {
    left: whole(left, line, canvas.width),
    top: whole(top, line, canvas.height),
    right: whole(left + box.width * scaleX, line, canvas.width),
    bottom: whole(top + box.height * scaleY, line, canvas.height),
  };
  // A canvas draws nothing for a rectangle without width or height.
  edges.right = Math.max(edges.right, edges.left + 1);
  edges.bottom = Math.max(edges.bottom, edges.top + 1);
  return edges;
}

/**
 * The pixel of an edge. An edge at the border of the canvas is moved inside: half of its line would be cut off.
 * @param {number} at
 * @param {number} line
 * @param {number} size of the canvas
 */
function whole(at, line, size) {
  const edge = Math.round(at);
  if (edge < -1 || edge > size + 1) return edge; // It is outside the canvas (`cover`).
  return Math.max(Math.floor(line / 2), Math.min(edge, size - Math.ceil(line / 2)));
}

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
  // A line of odd width is sharp if its centre is in the middle of a pixel.
  const shift = (line % 2) / 2;
  const halo = Math.max(1, Math.round(ratio));
  context.strokeStyle = paint;
  context.strokeStyle = seenOn(context.strokeStyle).halo; // On a background of the box's own colour.
  context.lineWidth = line + 2 * halo;
  context.strokeRect(edges.left + shift, edges.top + shift, width, height);
  context.strokeStyle = paint;
  context.lineWidth = line;
  context.strokeRect(edges.left + shift, edges.top + shift, width, height);
}

/**
 * A label's size, its text shortened if the canvas is too narrow, and its box including the line.
 * @param {CanvasRenderingContext2D} context
 * @param {string} whole its text
 * @param {Edges} edges
 * @param {number} line
 * @param {number} ratio
 */
function measured(context, whole, { left, top, right, bottom }, line, ratio) {
  const padding = Math.round(5 * ratio);
  const text = shortened(whole, (one) => context.measureText(one).width + 2 * padding <= context.canvas.width);
  const { width, fontBoundingBoxAscent: ascent, fontBoundingBoxDescent: descent } = context.measureText(text);
  // Firefox before 116 does not report the height of the font.
  const size = ascent + descent || 1.2 * (parseFloat(/[\d.]+(?=px)/.exec(context.font)?.[0] ?? "") || 10);
  const overhang = Math.floor(line / 2);
  return {
    text,
    padding,
    width: Math.ceil(width) + 2 * padding,
    height: Math.round(size * 1.15 + padding / 2),
    box: { left: left - overhang, top: top - overhang, width: right - left + 2 * overhang, height: bottom - top + 2 * overhang },
  };
}

/**
 * The text, or as much of it as fits, including the last characters: the percentage.
 * @param {string} text
 * @param {(text: string) => boolean} fits
 */
function shortened(text, fits) {
  if (fits(text)) return text;
  const letters = [...text];
  const cut = (/** @type {number} */ count) => {
    const tail = Math.min(5, count >> 1);
    return `${letters.slice(0, count - tail).join("").trimEnd()}…${letters.slice(letters.length - tail).join("")}`;
  };
  let [least, most] = [0, letters.length];
  while (least < most) {
    const middle = Math.ceil((least + most) / 2);
    if (fits(cut(middle))) least = middle;
    else most = middle - 1;
  }
  return cut(least);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {import("./labels.js").Rect} place
 * @param {{ text: string, paint: string, alpha: number, padding: number }} label
 * @param {number} ratio
 */
function drawLabel(context, { left, top, width, height }, { text, paint, alpha, padding }, ratio) {
  context.globalAlpha = (1 + alpha) / 2; // Text must stay readable.
  context.fillStyle = paint;
  const { text: ink } = seenOn(context.fillStyle);
  context.beginPath();
  if (context.roundRect) context.roundRect(left, top, width, height, 3 * ratio);
  else context.rect(left, top, width, height); // Chromium before 99, Firefox before 112.
  context.fill();
  context.fillStyle = ink;
  context.fillText(text, left + padding, top + height / 2 + ratio * 0.5);
}

/** @param {CanvasRenderingContext2D["fillStyle"]} paint as a canvas gives it back: `#rrggbb`, or transparent, or not of sRGB */
function seenOn(paint) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(String(paint).slice(at, at + 2), 16));
  return 0.3 * red + 0.59 * green + 0.11 * blue < 120 ? ON_DARK : ON_LIGHT;
}

/**
 * @param {string} font CSS, with its size in px
 * @param {number} ratio
 */
function scaledFont(font, ratio) {
  return font.replace(/([\d.]+)px/, (_, size) => `${Number(size) * ratio}px`);
}
