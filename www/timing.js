// How long frames take: averages, and the last ones for the plot. No DOM, but for `drawPlot`.

/** Frames in the plot. */
const KEPT = 120;

export class Timing {
  /** @type {{ detect: number, draw: number }[]} in milliseconds, the oldest first */
  frames = [];
  #ends = [];
  #average = { detect: 0, draw: 0 };
  count = 0;

  /**
   * @param {number} detect milliseconds from taking the frame to its objects
   * @param {number} draw milliseconds
   * @param {number} now
   */
  add(detect, draw, now) {
    // About the last second of a video; a single picture counts as it is.
    const weight = this.count ? 0.1 : 1;
    this.#average.detect += (detect - this.#average.detect) * weight;
    this.#average.draw += (draw - this.#average.draw) * weight;
    this.count += 1;
    this.frames.push({ detect, draw });
    if (this.frames.length > KEPT) this.frames.shift();
    this.#ends.push(now);
    while (this.#ends.length > 2 && this.#ends[0] < now - 2000) this.#ends.shift();
  }

  get average() {
    return { ...this.#average };
  }

  /** Frames a second over the last two seconds, or the last two frames where they take longer; `undefined` after one. */
  get rate() {
    const [first, last] = [this.#ends[0], this.#ends.at(-1)];
    return this.#ends.length > 1 && last > first ? ((this.#ends.length - 1) * 1000) / (last - first) : undefined;
  }
}

/**
 * The last frames as columns, detection with drawing on top, scaled to the slowest.
 * @param {HTMLCanvasElement} canvas
 * @param {readonly { detect: number, draw: number }[]} frames
 * @param {{ detect: string, draw: string }} colors
 * @returns {number} milliseconds at the top of the plot
 */
export function drawPlot(canvas, frames, colors) {
  const ratio = globalThis.devicePixelRatio ?? 1;
  const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const top = niceTop(Math.max(0, ...frames.map(({ detect, draw }) => detect + draw)));
  const context = canvas.getContext("2d");
  if (!context) return top;
  context.clearRect(0, 0, width, height);
  const column = width / KEPT;
  frames.forEach(({ detect, draw }, index) => {
    const left = width - (frames.length - index) * column;
    const [a, b] = [(detect / top) * height, (draw / top) * height];
    const fill = Math.max(1, column - (column > 3 ? 1 : 0));
    context.fillStyle = colors.detect;
    context.fillRect(left, height - a, fill, a);
    context.fillStyle = colors.draw;
    context.fillRect(left, height - a - b, fill, b);
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
