// Frame → RGBA pixels, no larger than the model can use.
import { MicroYoloError } from "./error.js";
import { drawError } from "./source.js";

/** What transparent pixels are seen against: the letterbox grey, as in src/image.rs. */
const GREY = "rgb(114 114 114)";

/**
 * Reads frames through one canvas that is kept from frame to frame.
 *
 * A frame larger than the model's input is scaled to it by the browser, whose scaler is faster than copying all pixels
 * into WebAssembly memory first; pixels given as such are passed on whole, and scaled there.
 */
export class PixelReader {
  /** @type {OffscreenCanvas | HTMLCanvasElement | undefined} */
  #canvas;
  /** @type {OffscreenCanvasRenderingContext2D | CanvasRenderingContext2D | undefined} */
  #context;

  /**
   * @param {import("./source.js").Frame} frame
   * @param {{ width: number, height: number }} input the model's input, in pixels
   * @returns {import("./source.js").Pixels}
   */
  read(frame, input) {
    if (!("image" in frame)) return frame;
    const scale = Math.min(1, input.width / frame.width, input.height / frame.height);
    const width = Math.max(1, Math.round(frame.width * scale));
    const height = Math.max(1, Math.round(frame.height * scale));
    const context = this.#resized(width, height);
    try {
      context.fillStyle = GREY;
      context.fillRect(0, 0, width, height);
      context.imageSmoothingQuality = "high";
      context.drawImage(/** @type {CanvasImageSource} */ (frame.image), 0, 0, width, height);
      return context.getImageData(0, 0, width, height);
    } catch (cause) {
      this.#canvas = this.#context = undefined; // Tainted for good.
      throw drawError(cause);
    } finally {
      if (frame.ours && "close" in frame.image) frame.image.close();
    }
  }

  /**
   * @param {number} width
   * @param {number} height
   */
  #resized(width, height) {
    if (!this.#context || !this.#canvas) {
      this.#canvas = newCanvas(width, height);
      const context = /** @type {OffscreenCanvasRenderingContext2D | null} */ (
        this.#canvas.getContext("2d", { willReadFrequently: true })
      );
      if (!context) throw new MicroYoloError("unsupported", "this browser gave no canvas to read pixels with");
      this.#context = context;
    } else if (this.#canvas.width !== width || this.#canvas.height !== height) {
      this.#canvas.width = width;
      this.#canvas.height = height;
    }
    return this.#context;
  }
}

/**
 * @param {number} width
 * @param {number} height
 */
function newCanvas(width, height) {
  if (typeof OffscreenCanvas === "function") return new OffscreenCanvas(width, height);
  if (typeof document === "object") return Object.assign(document.createElement("canvas"), { width, height });
  throw new MicroYoloError("unsupported", "here is no canvas (Node?); give pixels as {data, width, height}");
}
