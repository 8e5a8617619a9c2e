// The parts of the entry `micro-yolo`: those of `micro-yolo/small`, and the full engine.
import { located, packaged } from "./packaged.js";
import { parts as small } from "./parts-small.js";
import { hasRelaxedSimd } from "./platform.js";

/** @typedef {NonNullable<import("./index.js").LoadOptions["wasm"]>} EngineSource */
/** @typedef {NonNullable<import("./index.js").LoadOptions["model"]>} ModelSource */

/**
 * One kind of engine. There is a file of it for each level of SIMD; in int8 all give the same results.
 * @typedef {object} EnginePart
 * @property {() => EngineSource | Promise<EngineSource>} file the fastest file that this browser runs
 * @property {() => Promise<Pick<typeof import("./engine.js"), "Engine"> & { instance: import("./engine.js").Instance }>} local loads it on the calling thread
 */

/** @typedef {"plain" | "full" | "threads"} Kind */

/**
 * The parts of an entry of the package.
 * @typedef {object} Parts
 * @property {() => ModelSource | Promise<ModelSource>} model
 * @property {() => Worker} worker starts one
 * @property {() => Promise<typeof import("./helpers.js")>} [helpers]
 * @property {Partial<Record<Kind, EnginePart>> & { plain: EnginePart }} engines
 */

/** @satisfies {Parts} */
export const parts = {
  ...small,
  engines: {
    ...small.engines,
    full: {
      file: () =>
        packaged(() =>
          located(
            hasRelaxedSimd()
              ? new URL("./wasm/micro_yolo_full_relaxed_bg.wasm", import.meta.url)
              : new URL("./wasm/micro_yolo_full_bg.wasm", import.meta.url),
          ),
        ),
      local: () => import("./engine-full.js"),
    },
  },
};
