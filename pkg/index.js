// Importing does nothing; Detector.load() loads. Types and documentation: index.d.ts.
export { Detector } from "./detector.js";
export { MicroYoloError } from "./error.js";
