// The engine that runs this project's networks, with helpers.
import { Instance } from "./engine.js";
import * as glue from "./wasm/micro_yolo_threads.js";

export { Engine } from "./engine.js";
/** The one of this thread. */
export const instance = new Instance(glue);
