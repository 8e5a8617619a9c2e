// The engine that runs this project's networks and no other.
import { Instance } from "./engine.js";
import * as glue from "./wasm/micro_yolo.js";

export { Engine } from "./engine.js";
/** The one of this thread. */
export const instance = new Instance(glue);
