// Converts a frame to RGBA pixels, not much larger than the model can use.
import { checkReadback, newCanvas } from "./canvas.js";
import { MicroYoloError } from "./error.js";
import { kindOf } from "./kind.js";
import { drawError, release } from "./source.js";

/** The background of transparent pixels: the letterbox grey, as in src/image.rs. */
const GREY = "rgb(114 114 114)";
/** The same as RGBA, on a little-endian machine as all that run WebAssembly. */
const GREY_PIXEL = 0xff727272;

/**
 * The engine's letterbox reduces with the same filter as in training, the browser with another one. So the browser only
 * reduces large frames to twice the model's input, where its filter has little effect. On the 192 photographs of a
 * validation set (at most 640 px, input 320), an early model had AP 0.0155 with the engine's filter alone and 0.0129
 * with Chromium's best. 640 x 360 px took the engine about 1.5 ms, 1920 x 1080 px 10 ms.
 */
const TIMES_INPUT = 2;

/**
 * Reads frames through one canvas that is reused from frame to frame.
 *
 * Frames given as pixels are passed on unchanged.
 */
export class PixelReader {
  /** @type {OffscreenCanvas | HTMLCanvasElement | undefined} */
  #canvas;
  /** @type {OffscreenCanvasRenderingContext2D | CanvasRenderingContext2D | undefined} */
  #context;

  /**
   * @param {import("./source.js").Frame} frame
   * @param {{ width: number, height: number }} input the model's input, in pixels
   * @returns {import("./source.js").Pixels & { plain?: boolean, blank?: boolean }} `plain`: all pixels are the same;
   * `blank`: nothing was drawn, or a picture of that very grey
   */
  read(frame, input) {
    if (!("image" in frame)) return frame;
    // A bitmap of an image with `srcset` has the file's pixels. Its size on the page differs.
    const full = kindOf(frame.image) === "ImageBitmap" ? /** @type {ImageBitmap} */ (frame.image) : frame;
    const scale = Math.min(1, (TIMES_INPUT * input.width) / full.width, (TIMES_INPUT * input.height) / full.height);
    const width = Math.max(1, Math.round(full.width * scale));
    const height = Math.max(1, Math.round(full.height * scale));
    const context = this.#resized(width, height);
    try {
      context.fillStyle = GREY;
      context.fillRect(0, 0, width, height);
      context.imageSmoothingQuality = "high";
      context.drawImage(/** @type {CanvasImageSource} */ (frame.image), 0, 0, width, height);
      const { data } = context.getImageData(0, 0, width, height);
      const pixels = new Uint32Array(data.buffer);
      const plain = pixels.every((pixel) => pixel === pixels[0]);
      return { data, width, height, plain, blank: plain && pixels[0] === GREY_PIXEL };
    } catch (cause) {
      this.#canvas = this.#context = undefined; // It stays tainted.
      throw drawError(cause);
    } finally {
      release(frame);
    }
  }

  /**
   * @param {number} width
   * @param {number} height
   */
  #resized(width, height) {
    if (!this.#context || !this.#canvas) {
      checkReadback();
      this.#canvas = newCanvas(width, height);
      const context = /** @type {OffscreenCanvasRenderingContext2D | null} */ (
        this.#canvas.getContext("2d", { willReadFrequently: true })
      );
      if (!context) throw new MicroYoloError("unsupported", "here is no canvas to read pixels with; give pixels as {data, width, height}");
      this.#context = context;
    } else if (this.#canvas.width !== width || this.#canvas.height !== height) {
      this.#canvas.width = width;
      this.#canvas.height = height;
    }
    return this.#context;
  }
}
