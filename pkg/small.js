// As index.js, without the engines that run any network: for who uses this project's models only.
import { Detector as Base } from "./detector.js";
import { load } from "./load.js";
import { parts } from "./parts-small.js";

export { MicroYoloError } from "./error.js";

export class Detector extends Base {
  /** @param {import("./index.js").LoadOptions} [options] */
  static load(options) {
    return load(Detector, parts, options);
  }
}
