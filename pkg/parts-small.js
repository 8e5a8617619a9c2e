// The parts of the entry `micro-yolo/small`: the plain engine, the model and the worker. Each address is written out,
// because bundlers look for exactly this form.
import { located, packaged } from "./packaged.js";
import { hasRelaxedSimd } from "./platform.js";

/** @satisfies {import("./parts.js").Parts} */
export const parts = {
  model: () => packaged(() => located(new URL("./wasm/micro-yolo-int8.onnx", import.meta.url))),
  worker: () => new Worker(new URL("./worker.js", import.meta.url), { type: "module" }),
  helpers: () => import("./helpers.js"),
  engines: {
    plain: {
      file: () =>
        packaged(() =>
          located(
            hasRelaxedSimd()
              ? new URL("./wasm/micro_yolo_relaxed_bg.wasm", import.meta.url)
              : new URL("./wasm/micro_yolo_bg.wasm", import.meta.url),
          ),
        ),
      local: () => import("./engine-plain.js"),
    },
    threads: {
      file: () => packaged(() => located(new URL("./wasm/micro_yolo_threads_bg.wasm", import.meta.url))),
      local: () => import("./engine-threads.js"),
    },
  },
};
