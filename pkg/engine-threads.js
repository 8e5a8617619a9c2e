// The engine for this project's networks, with helper threads.
import { Instance } from "./engine.js";
import * as glue from "./wasm/micro_yolo_threads.js";

export { Engine } from "./engine.js";
/** The instance of this thread. */
export const instance = new Instance(glue);
