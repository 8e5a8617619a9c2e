// Stabilises the results for the frames of a video. A network processes each frame separately: near the threshold a box
// appears and disappears, and an object is a cat in one frame and a teddy bear in the next. So scores are averaged over
// time. No DOM.
import { overlap } from "./results.js";

/** @typedef {import("./pkg/index.js").DetectedObject} DetectedObject */

/**
 * The time in seconds in which the weight of a frame falls to 37 %. An object with a score of 70 % from one frame on is
 * above 40 % after 0.2 s.
 */
const MEMORY = 0.25;
/** A longer step in time, or one back, starts another scene: a seek, or a video that restarts. In seconds. */
const GAP = 1;
/**
 * Boxes of one class that overlap by more than this from frame to frame (intersection over union) belong to one object.
 */
const SAME = 0.3;
/** Objects whose score has fallen below this are forgotten. */
const LEAST = 0.05;
/** The clocks of some cameras stand still from one frame to the next. In seconds. */
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
   * The current objects with averaged scores, including those missed for a frame or two. The first frame of a scene is
   * returned unchanged.
   * @param {readonly DetectedObject[]} objects of the next frame
   * @param {number} time of the frame, in seconds
   * @returns {DetectedObject[]} the best score first
   */
  add(objects, time) {
    const passed = time - this.#time;
    const goesOn = passed >= 0 && passed < GAP;
    this.#time = time;
    const kept = goesOn ? Math.exp(-Math.max(passed, SHORTEST) / MEMORY) : 0;
    const before = pairs(goesOn ? this.#objects : [], objects);
    const matched = new Set(before.values());
    const now = objects.map((object) => ({ ...object, score: kept * (before.get(object)?.score ?? 0) + (1 - kept) * object.score }));
    for (const missed of goesOn ? this.#objects : []) if (!matched.has(missed)) now.push({ ...missed, score: kept * missed.score });
    this.#objects = now.filter(({ score }) => score >= LEAST).sort((a, b) => b.score - a.score);
    return this.#objects;
  }
}

/**
 * How similar two objects of successive frames are, by rules in the order of their priority; 0 if they are different
 * objects.
 * @type {((before: DetectedObject, now: DetectedObject, taken: ReadonlySet<number | undefined>) => number)[]}
 */
const RULES = [
  // The tracker has identified it, whatever its class is in this frame.
  (before, now) => (now.trackId !== undefined && before.trackId === now.trackId ? 1 : 0),
  (before, now, taken) => (mayBe(before, now, taken) && overlap(before.box, now.box) > SAME ? overlap(before.box, now.box) : 0),
  // A small object moves by most of its size from frame to frame.
  (before, now, taken) => (mayBe(before, now, taken) ? nearness(before.box, now.box) : 0),
];

/** Whether the class is the same, and the object is not another track of this frame. */
function mayBe(before, now, taken) {
  return before.label === now.label && (before.trackId === undefined || !taken.has(before.trackId));
}

/** 1 for the same centre, down to 0 if the centres are a box's size apart. */
function nearness(a, b) {
  const x = a.x + a.width / 2 - b.x - b.width / 2;
  const y = a.y + a.height / 2 - b.y - b.height / 2;
  const size = Math.sqrt(Math.min(a.width * a.height, b.width * b.height));
  return size > 0 ? Math.max(0, 1 - Math.hypot(x, y) / size) : 0;
}

/**
 * For each object that existed before, its previous state. A rule is tried on all objects before the next rule.
 * @param {readonly DetectedObject[]} before
 * @param {readonly DetectedObject[]} now
 * @returns {Map<DetectedObject, DetectedObject>} from now to before
 */
function pairs(before, now) {
  const left = new Set(before);
  const taken = new Set(now.map(({ trackId }) => trackId));
  const found = new Map();
  for (const rule of RULES) {
    for (const object of now) {
      if (found.has(object)) continue;
      let best;
      let most = 0;
      for (const one of left) {
        const likeness = rule(one, object, taken);
        if (likeness > most) [best, most] = [one, likeness];
      }
      if (!best) continue;
      found.set(object, best);
      left.delete(best);
    }
  }
  return found;
}
