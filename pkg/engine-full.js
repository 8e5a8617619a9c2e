// The engine with tract, which runs any network.
import { Instance } from "./engine.js";
import * as glue from "./wasm/micro_yolo_full.js";

export { Engine } from "./engine.js";
/** The instance of this thread. */
export const instance = new Instance(glue);
