import type { DetectedObject, MicroYoloError } from "./index.js";

/**
 * Importing `micro-yolo/element` registers `<micro-yolo>`. It shows the objects over the first `<img>`, `<video>` or
 * `<canvas>` inside it, which may be nested in a link, a `<figure>`, a `<picture>` or the open shadow tree of a
 * component. It detects once in each picture that an image shows, once in a canvas, and in a video while it plays.
 * Elements with the same model, input size and number of threads share one detector, which is loaded by the first and
 * disposed of with the last.
 *
 * ```html
 * <micro-yolo score-threshold="0.4" classes="cat, dog"><img src="cat.jpg" alt="A cat" /></micro-yolo>
 * ```
 *
 * Boxes follow the picture, also while its style changes: border, padding, `object-fit`, `object-position`,
 * `object-view-box`, `image-orientation`, `zoom`, and transforms of the picture and of the elements around it (without
 * perspective and `offset-path`). Labels of a mirrored picture are not mirrored.
 *
 * | attribute | what it does |
 * |---|---|
 * | `classes` | shows only these, by label or number, separated by commas; empty or left out: all |
 * | `input-size` | the size in pixels to which pictures are scaled, as `320` or `320x224`: see `LoadOptions.inputSize` |
 * | `model` | URL of an ONNX file; left out: the model inside this package |
 * | `score-threshold` | 0 to 1, default 0.25; a value under 0.25 acts as 0.25 |
 * | `threads` | the number of threads, 1 to 16, default 1: see `LoadOptions.threads` |
 * | `track` | videos: tracks objects, which then have a `trackId` |
 *
 * Events: `detect`; `detect-error`, if model, picture or video cannot be loaded (`invalid-image` if it is broken) or an
 * attribute is wrong (`invalid-option`). Cancel it to keep the error out of the console. The CSS part `boxes` is the
 * canvas.
 */
export class MicroYoloElement extends HTMLElement {
  /** The objects found last. */
  readonly objects: readonly DetectedObject[];
  // Properties reflect the attributes. Setting `undefined` or `null` removes the attribute.
  /** Reflects `classes`: "" if it is left out. An array is joined with commas. */
  get classes(): string;
  set classes(value: string | readonly (string | number)[] | null | undefined);
  /** Reflects `input-size`: "" if it is left out. */
  get inputSize(): string;
  set inputSize(value: string | number | null | undefined);
  /** Reflects `model`: "" if it is left out. */
  get model(): string;
  set model(value: string | URL | null | undefined);
  /** Reflects `score-threshold`: 0.25 if it is left out. */
  get scoreThreshold(): number;
  set scoreThreshold(value: number | null | undefined);
  /** Reflects `threads`: 1 if it is left out. */
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

/** The element's attributes, for the types of JSX. What they do is said at `MicroYoloElement`. */
export interface MicroYoloAttributes {
  classes?: string | undefined;
  "input-size"?: string | number | undefined;
  model?: string | undefined;
  "score-threshold"?: string | number | undefined;
  threads?: string | number | undefined;
  /** Tracks if the attribute is there, whatever its value: React 18 would write `false` as text. */
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
