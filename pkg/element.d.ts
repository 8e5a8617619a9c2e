import type { DetectedObject, MicroYoloError } from "./index.js";

/**
 * Importing `micro-yolo/element` registers `<micro-yolo>`, which shows the objects over the first `<img>`, `<video>` or
 * `<canvas>` inside it, however deep (in a link, a `<figure>`, a `<picture>`, the open shadow tree of a component): an image once for each
 * picture that it shows, a canvas once, a video as it plays, and again when it is played again. Elements of one model,
 * input size and number of threads share one detector, loaded by the first and disposed of with the last.
 *
 * ```html
 * <micro-yolo score-threshold="0.4" classes="cat, dog"><img src="cat.jpg" alt="A cat" /></micro-yolo>
 * ```
 *
 * Boxes lie where the picture lies: inside border and padding, by `object-fit`, `object-position`, `object-view-box` and
 * `image-orientation`, enlarged by `zoom`, turned and mirrored with it by transforms of the picture and of what is around it
 * (without perspective and `offset-path`), also while these change. Labels of a mirrored picture can still be read.
 *
 * | attribute | what it does |
 * |---|---|
 * | `classes` | shows only these, by label or number, with commas between; empty or left out: all |
 * | `input-size` | the size in pixels to which pictures are fitted, as `320` or `320x224`: see `LoadOptions.inputSize` |
 * | `model` | URL of an ONNX file; left out: the model inside this package |
 * | `score-threshold` | 0 to 1, default 0.25; values under 0.25 show no more than 0.25 does |
 * | `threads` | computes on so many, 1 to 16, where the page is cross-origin isolated, default 1: see `LoadOptions.threads` |
 * | `track` | videos: follows objects, which then have a `trackId` |
 *
 * Events: `detect`; `detect-error`, if model, picture or video cannot be loaded (`invalid-image` for a broken one) or an
 * attribute is wrong (`invalid-option`). Cancel it to keep the error out of the console. Part: `boxes`, the canvas.
 */
export class MicroYoloElement extends HTMLElement {
  /** The objects found last. */
  readonly objects: readonly DetectedObject[];
  /** Reflects `score-threshold`. */
  scoreThreshold: number;

  addEventListener<K extends keyof MicroYoloElementEventMap>(
    type: K,
    listener: (this: MicroYoloElement, event: MicroYoloElementEventMap[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

export interface MicroYoloElementEventMap extends HTMLElementEventMap {
  detect: CustomEvent<{ objects: readonly DetectedObject[]; width: number; height: number }>;
  "detect-error": CustomEvent<{ error: MicroYoloError }>;
}

declare global {
  interface HTMLElementTagNameMap {
    "micro-yolo": MicroYoloElement;
  }
}
