import type { DetectedObject, MicroYoloError } from "./index.js";

/**
 * Importing `micro-yolo/element` registers `<micro-yolo>`, which wraps one `<img>`, `<video>` or `<canvas>` and shows
 * the objects over it: an image once for each `src`, a canvas once, a video as it plays. Elements of one model share
 * one detector, loaded by the first and disposed of with the last.
 *
 * ```html
 * <micro-yolo score-threshold="0.4"><img src="cat.jpg" alt="A cat" /></micro-yolo>
 * ```
 *
 * Attributes: `score-threshold` (0 to 1; values under 0.25 show no more than 0.25 does), `model` (URL of an ONNX
 * file), `track` (videos: follow objects). Part: `boxes`, the canvas. Events: `detect`, `detect-error` (cancel it to
 * keep the error out of the console).
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
