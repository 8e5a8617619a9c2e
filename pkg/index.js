// Importing does nothing; Detector.load() loads. Types and documentation: index.d.ts.
import { Detector as Base } from "./detector.js";
import { load } from "./load.js";
import { parts } from "./parts.js";

export { MicroYoloError } from "./error.js";

export class Detector extends Base {
  /** @param {import("./index.js").LoadOptions} [options] */
  static load(options) {
    return load(Detector, parts, options);
  }
}
