// The paths of tracked objects. No DOM.

/** @typedef {{ label: string, points: { x: number, y: number }[] }} Trail points in pixels of the frame, the oldest first */

/** Two seconds of a video with 25 frames per second. */
const POINTS = 50;
/** A track that is not detected for this number of frames has ended. */
const PATIENCE = 15;

export class Trails {
  /** @type {Map<number, Trail & { missed: number }>} */
  #trails = new Map();

  /**
   * Adds the objects of one frame.
   * @param {readonly import("./pkg/index.js").DetectedObject[]} objects
   */
  add(objects) {
    for (const trail of this.#trails.values()) trail.missed += 1;
    for (const { trackId, label, box } of objects) {
      if (trackId === undefined) continue;
      const trail = this.#trails.get(trackId) ?? { label, points: [], missed: 0 };
      trail.label = label;
      trail.missed = 0;
      trail.points.push({ x: box.x + box.width / 2, y: box.y + box.height / 2 });
      if (trail.points.length > POINTS) trail.points.shift();
      this.#trails.set(trackId, trail);
    }
    for (const [id, { missed }] of this.#trails) if (missed > PATIENCE) this.#trails.delete(id);
  }

  clear() {
    this.#trails.clear();
  }

  /** @returns {Trail[]} */
  list() {
    return [...this.#trails.values()];
  }
}
