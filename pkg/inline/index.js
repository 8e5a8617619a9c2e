// The entry `micro-yolo/inline`, from which xtask/inline.mjs makes the one file pkg/inline.js: as ../index.js, but engine,
// model and worker are inside, so that nothing has to be found anywhere.
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
