// Boxes over a picture, with labels that do not cover each other, the highlighted object, and trails of tracks.
import { contained, placeLabels } from "./layout.js";
import { drawObjects } from "./pkg/draw.js";

const TEXT = "#10151c";
const FONT_PX = 13;

/** @param {import("./results.js").Settled} object */
export function labelOf({ label, score, trackId }) {
  const text = `${label} ${Math.round(score * 100)} %`;
  return trackId === undefined ? text : `#${trackId} ${text}`;
}

/**
 * @param {HTMLCanvasElement | OffscreenCanvas} canvas
 * @param {readonly import("./results.js").Settled[]} objects the surest first
 * @param {object} options
 * @param {number} options.width of the picture that boxes refer to
 * @param {number} options.height
 * @param {(label: string) => string} options.color
 * @param {boolean} [options.mirror]
 * @param {number} [options.pixelRatio]
 * @param {import("./results.js").Settled} [options.highlighted] the one that is pointed at
 * @param {readonly import("./trails.js").Trail[]} [options.trails]
 */
export function drawBoxes(canvas, objects, { width, height, color, mirror = false, pixelRatio, highlighted, trails = [] }) {
  const ratio = pixelRatio ?? globalThis.devicePixelRatio ?? 1;
  const paint = (object) => color(object.label);
  drawObjects(canvas, objects, {
    width,
    height,
    mirror,
    pixelRatio: ratio,
    fit: "contain",
    label: () => "",
    color: highlighted ? (object) => (object === highlighted ? paint(object) : `${paint(object)}80`) : paint,
  });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  if (!(context && width > 0 && height > 0)) return;
  const area = contained(canvas, { width, height });
  const toCanvas = ({ x, y }) => ({ x: area.left + (mirror ? width - x : x) * area.scale, y: area.top + y * area.scale });

  for (const { label, points } of trails) drawTrail(context, points.map(toCanvas), color(label), 2 * ratio);

  if (highlighted) {
    // Twice as thick, over everything: what is pointed at is seen whole.
    const { x, y } = toCanvas({ x: mirror ? highlighted.box.x + highlighted.box.width : highlighted.box.x, y: highlighted.box.y });
    context.strokeStyle = paint(highlighted);
    context.lineWidth = Math.round(4 * ratio);
    context.strokeRect(Math.round(x), Math.round(y), highlighted.box.width * area.scale, highlighted.box.height * area.scale);
  }

  context.font = `600 ${FONT_PX * ratio}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const padding = Math.round(5 * ratio);
  const order = highlighted ? [highlighted, ...objects.filter((object) => object !== highlighted)] : objects;
  const labels = order.map((object) => {
    const corner = toCanvas({ x: mirror ? object.box.x + object.box.width : object.box.x, y: object.box.y });
    return {
      object,
      text: labelOf(object),
      box: {
        left: Math.round(corner.x - ratio),
        top: Math.round(corner.y - ratio),
        width: Math.round(object.box.width * area.scale + 2 * ratio),
        height: Math.round(object.box.height * area.scale + 2 * ratio),
      },
      width: Math.ceil(context.measureText(labelOf(object)).width) + 2 * padding,
      height: Math.round((FONT_PX + 7) * ratio),
    };
  });
  placeLabels(labels, canvas).forEach((place, index) => {
    if (!place) return;
    const { object, text } = labels[index];
    context.globalAlpha = highlighted && object !== highlighted ? 0.55 : 1;
    context.fillStyle = paint(object);
    context.beginPath();
    if (context.roundRect) context.roundRect(place.left, place.top, place.width, place.height, 3 * ratio);
    else context.rect(place.left, place.top, place.width, place.height); // Chromium before 99, Firefox before 112.
    context.fill();
    context.fillStyle = TEXT;
    context.fillText(text, place.left + padding, place.top + place.height / 2 + ratio * 0.5);
  });
  context.globalAlpha = 1;
}

/**
 * A line that thins out towards its oldest point.
 * @param {CanvasRenderingContext2D} context
 * @param {readonly { x: number, y: number }[]} points the oldest first
 * @param {string} color
 * @param {number} thick
 */
function drawTrail(context, points, color, thick) {
  context.strokeStyle = color;
  context.lineCap = "round";
  for (let at = 1; at < points.length; at += 1) {
    context.globalAlpha = at / points.length;
    context.lineWidth = Math.max(1, (thick * 1.5 * at) / points.length);
    context.beginPath();
    context.moveTo(points[at - 1].x, points[at - 1].y);
    context.lineTo(points[at].x, points[at].y);
    context.stroke();
  }
  context.globalAlpha = 1;
}
