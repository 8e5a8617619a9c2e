// The generated glue code, pkg/wasm/*.js, in the form for bundles and for the package.
import { readFile } from "node:fs/promises";

const GLUE = /[\\/]wasm[\\/]micro_yolo\w*\.js$/;

/**
 * Glue code that can be imported where the runtime hides Node's text coders, such as a test runner's jsdom (Jest). The
 * generated code creates one on import, and importing must not fail.
 */
export const withText = (glue) =>
  `const { TextDecoder, TextEncoder } = globalThis.TextDecoder ? globalThis : globalThis.process.getBuiltinModule("node:util");\n${glue}`;

/** Whether a file of the package is such glue code, by its path. */
export const isGlue = (path) => GLUE.test(path);

/** The plugin for esbuild. */
export const glue = {
  name: "glue",
  setup({ onLoad }) {
    onLoad({ filter: GLUE }, async ({ path }) => ({ contents: withText(await readFile(path, "utf8")) }));
  },
};
