// Times of frames: averages, and the last frames for the plot. No DOM, except in `drawPlot`.

/** Frames in the plot. */
const KEPT = 120;

/**
 * @typedef {object} Times of one frame, in milliseconds
 * @property {number} pixels passing the frame to the detector's thread and reading its pixels
 * @property {number} network the network
 * @property {number} boxes decoding of boxes, and tracking
 * @property {number} draw drawing of boxes and list
 */

export const PARTS = /** @type {const} */ (["pixels", "network", "boxes", "draw"]);

/** @param {Times} times */
export const sum = ({ pixels, network, boxes, draw }) => pixels + network + boxes + draw;

/**
 * The median by time, which excludes disturbed runs and those before the browser had compiled everything.
 * @template {{ milliseconds: number }} T
 * @param {readonly T[]} looks at least one
 * @returns {T}
 */
export function typical(looks) {
  const sorted = [...looks].sort((a, b) => a.milliseconds - b.milliseconds);
  return sorted[(sorted.length - 1) >> 1];
}

export class Timing {
  /** @type {Times[]} the oldest first */
  frames = [];
  #ends = [];
  /** @type {Times} */
  #average = { pixels: 0, network: 0, boxes: 0, draw: 0 };
  count = 0;

  /**
   * @param {Times} times
   * @param {number} now
   */
  add(times, now) {
    // An average over about the last second of a video. A single picture counts as it is.
    const weight = this.count ? 0.1 : 1;
    for (const part of PARTS) this.#average[part] += (times[part] - this.#average[part]) * weight;
    this.count += 1;
    this.frames.push(times);
    if (this.frames.length > KEPT) this.frames.shift();
    this.#ends.push(now);
    while (this.#ends.length > 2 && this.#ends[0] < now - 2000) this.#ends.shift();
  }

  get average() {
    return { ...this.#average };
  }

  /**
   * Frames per second over the last two seconds, or over the last two frames if these take longer; `undefined` after
   * one frame.
   */
  get rate() {
    const [first, last] = [this.#ends[0], this.#ends.at(-1)];
    return this.#ends.length > 1 && last > first ? ((this.#ends.length - 1) * 1000) / (last - first) : undefined;
  }
}

/**
 * Draws the last frames as stacked columns, scaled to the slowest.
 * @param {HTMLCanvasElement} canvas
 * @param {readonly Times[]} frames
 * @param {Record<keyof Times, string>} colors
 * @returns {number} milliseconds at the top of the plot
 */
export function drawPlot(canvas, frames, colors) {
  const ratio = globalThis.devicePixelRatio ?? 1;
  const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const top = niceTop(Math.max(0, ...frames.map(sum)));
  const context = canvas.getContext("2d");
  if (!context) return top;
  context.clearRect(0, 0, width, height);
  const column = width / KEPT;
  const fill = Math.max(1, column - (column > 3 ? 1 : 0));
  frames.forEach((times, index) => {
    const left = width - (frames.length - index) * column;
    let bottom = height;
    for (const part of PARTS) {
      const high = (times[part] / top) * height;
      bottom -= high;
      context.fillStyle = colors[part];
      context.fillRect(left, bottom, fill, high);
    }
  });
  return top;
}

/**
 * 1, 2 or 5 times a power of ten, not below `value`.
 * @param {number} value
 */
export function niceTop(value) {
  if (!(value > 0)) return 10;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((times) => times * power).find((one) => one >= value * 0.999) ?? value;
}
