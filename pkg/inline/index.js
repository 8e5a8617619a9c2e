// The entry `micro-yolo/inline`, from which xtask/inline.mjs makes the single file pkg/inline.js. It is like
// ../index.js, but contains engine, model and worker, so that no other file is needed.
import { Detector as Base } from "../detector.js";
import { load } from "../load.js";
import { parts } from "./parts.js";

export { MicroYoloError } from "../error.js";

export class Detector extends Base {
  /** @param {import("../index.js").LoadOptions} [options] */
  static load(options) {
    return load(Detector, parts, options);
  }
}
