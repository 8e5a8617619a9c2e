// Answers for the frames of a video, made steady. A network decides each frame anew: near the threshold a box comes and goes,
// and a thing is a cat in one frame and a teddy bear in the next. So scores are averaged over a moment. No DOM.
import { overlap } from "./results.js";

/** @typedef {import("./pkg/index.js").DetectedObject} DetectedObject */

/**
 * The weight of a frame falls to 37 % in so many seconds. What is found with 70 % from one frame on is above 40 % after 0.2 s.
 */
const MEMORY = 0.25;
/** A longer step, or one back, is to another scene: a seek, a film that begins again. In seconds. */
const GAP = 1;
/** Boxes of one class that overlap by more than this from frame to frame (intersection over union) are one object's. */
const SAME = 0.3;
/** What has sunk below this score is forgotten. */
const LEAST = 0.05;
/** Some clocks of cameras stand still from one frame to the next. In seconds. */
const SHORTEST = 1 / 60;

export class Steady {
  /** @type {DetectedObject[]} with averaged scores */
  #objects = [];
  #time = NaN;

  clear() {
    this.#objects = [];
    this.#time = NaN;
  }

  /**
   * What is seen by now, with averaged scores, also what a frame or two missed; the first frame of a scene as it is.
   * @param {readonly DetectedObject[]} objects of the next frame
   * @param {number} time of the frame, in seconds
   * @returns {DetectedObject[]} the surest first
   */
  add(objects, time) {
    const passed = time - this.#time;
    const goesOn = passed >= 0 && passed < GAP;
    this.#time = time;
    const kept = goesOn ? Math.exp(-Math.max(passed, SHORTEST) / MEMORY) : 0;
    const left = new Set(goesOn ? this.#objects : []);
    const now = objects.map((object) => {
      const before = nearest(left, object);
      if (before) left.delete(before);
      return { ...object, score: kept * (before?.score ?? 0) + (1 - kept) * object.score };
    });
    for (const missed of left) now.push({ ...missed, score: kept * missed.score });
    this.#objects = now.filter(({ score }) => score >= LEAST).sort((a, b) => b.score - a.score);
    return this.#objects;
  }
}

/**
 * The object before that is most likely this one.
 * @param {Iterable<DetectedObject>} objects
 * @param {DetectedObject} object
 */
function nearest(objects, { label, box }) {
  let best;
  let most = SAME;
  for (const one of objects) {
    const share = one.label === label ? overlap(one.box, box) : 0;
    if (share > most) [best, most] = [one, share];
  }
  return best;
}
