// The engine without tract, which only runs this project's networks.
import { Instance } from "./engine.js";
import * as glue from "./wasm/micro_yolo.js";

export { Engine } from "./engine.js";
/** The instance of this thread. */
export const instance = new Instance(glue);
