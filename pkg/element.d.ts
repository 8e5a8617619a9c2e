import type { DetectedObject, MicroYoloError } from "./index.js";

/**
 * Importing `micro-yolo/element` registers `<micro-yolo>`. It shows the objects over the first `<img>`, `<video>` or
 * `<canvas>` inside it, which may be nested in a link, a `<figure>`, a `<picture>` or the open shadow tree of a
 * component. It detects once in each picture that an image shows, once in a canvas, and in a video while it plays.
 * Elements with the same model, input size and number of threads share one detector. The first element loads it, and it
 * is disposed of with the last one.
 *
 * ```html
 * <micro-yolo score-threshold="0.4" classes="cat, dog"><img src="cat.jpg" alt="A cat" /></micro-yolo>
 * ```
 *
 * Boxes follow the picture, also while its style changes: border, padding, `object-fit`, `object-position`,
 * `object-view-box`, `image-orientation`, `zoom`, and transforms of the picture and of the elements around it (without
 * perspective and `offset-path`). Labels of a mirrored picture are not mirrored.
 *
 * | attribute | effect |
 * |---|---|
 * | `classes` | shows only these, by label or number, separated by commas; empty or not set: all |
 * | `input-size` | the size in pixels to which pictures are scaled, as `320` or `320x224`: see `LoadOptions.inputSize` |
 * | `model` | URL of an ONNX file; not set: the model inside this package |
 * | `score-threshold` | 0 to 1, default 0.25; a value under 0.25 acts as 0.25 |
 * | `threads` | the number of threads, 1 to 16, default 1: see `LoadOptions.threads` |
 * | `track` | videos: tracks objects, which then have a `trackId` |
 *
 * Events: `detect`, and `detect-error` if model, picture or video cannot be loaded (`invalid-image` if it is broken) or
 * an attribute is wrong (`invalid-option`). Cancel `detect-error` to keep the error out of the console. The CSS part
 * `boxes` is the canvas.
 */
export class MicroYoloElement extends HTMLElement {
  /** The objects of the last result. */
  readonly objects: readonly DetectedObject[];
  // Properties reflect the attributes. Setting `undefined` or `null` removes the attribute.
  /** Reflects `classes`: "" if it is not set. An array is joined with commas. */
  get classes(): string;
  set classes(value: string | readonly (string | number)[] | null | undefined);
  /** Reflects `input-size`: "" if it is not set. */
  get inputSize(): string;
  set inputSize(value: string | number | null | undefined);
  /** Reflects `model`: "" if it is not set. */
  get model(): string;
  set model(value: string | URL | null | undefined);
  /** Reflects `score-threshold`: 0.25 if it is not set. */
  get scoreThreshold(): number;
  set scoreThreshold(value: number | null | undefined);
  /** Reflects `threads`: 1 if it is not set. */
  get threads(): number;
  set threads(value: number | null | undefined);
  /** Reflects `track`. */
  get track(): boolean;
  set track(value: boolean | null | undefined);

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
  removeEventListener<K extends keyof MicroYoloElementEventMap>(
    type: K,
    listener: (this: MicroYoloElement, event: MicroYoloElementEventMap[K]) => unknown,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject,
    options?: boolean | EventListenerOptions,
  ): void;
}

/** The element's attributes, for the types of JSX. `MicroYoloElement` documents their effects. */
export interface MicroYoloAttributes {
  classes?: string | undefined;
  "input-size"?: string | number | undefined;
  model?: string | undefined;
  "score-threshold"?: string | number | undefined;
  threads?: string | number | undefined;
  /** Tracking is on if the attribute exists, whatever its value: React 18 would write `false` as text. */
  track?: "" | undefined;
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
