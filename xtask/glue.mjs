// The generated glue, pkg/wasm/*.js, as it is put into bundles and into the package.
import { readFile } from "node:fs/promises";

const GLUE = /[\\/]wasm[\\/]micro_yolo\w*\.js$/;

/**
 * Glue that can be imported where the runtime hides Node's text coders, as a test runner's jsdom does (Jest). It makes one as
 * soon as it is imported, and importing must do nothing that can fail.
 */
export const withText = (glue) =>
  `const { TextDecoder, TextEncoder } = globalThis.TextDecoder ? globalThis : globalThis.process.getBuiltinModule("node:util");\n${glue}`;

/** Whether a file of the package, by its path, is such glue. */
export const isGlue = (path) => GLUE.test(path);

/** For esbuild. */
export const glue = {
  name: "glue",
  setup({ onLoad }) {
    onLoad({ filter: GLUE }, async ({ path }) => ({ contents: withText(await readFile(path, "utf8")) }));
  },
};
