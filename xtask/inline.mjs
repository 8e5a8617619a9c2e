// Makes pkg/inline.js, the entry `micro-yolo/inline`: one module with engine, model and worker inside. `cargo xtask
// build` runs it after pkg/wasm is built.
import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { glue } from "./glue.mjs";

const at = (path) => fileURLToPath(new URL(`../${path}`, import.meta.url));

/** Options with the oldest supported browsers, in esbuild's terms. */
const COMMON = { bundle: true, minify: true, write: false, target: ["chrome96", "firefox113", "safari16.4"], logLevel: "warning" };

async function workerScript() {
  const { outputFiles } = await build({ ...COMMON, entryPoints: [at("pkg/worker.js")], format: "iife", plugins: [glue] });
  return outputFiles[0].text;
}

/** The export of a module `inline:NAME`. */
async function content(name) {
  if (name === "worker") return workerScript();
  // Of the encodings that fit into a JavaScript file, base64 is the one that browsers decode fast, and after gzip it is
  // as small.
  return gzipSync(await readFile(at(`pkg/wasm/${name}`)), { level: 9 }).toString("base64");
}

const inline = {
  name: "inline",
  setup({ onLoad, onResolve }) {
    onResolve({ filter: /^inline:/ }, ({ path }) => ({ path: path.slice("inline:".length), namespace: "inline" }));
    onLoad({ filter: /.*/, namespace: "inline" }, async ({ path }) => ({ contents: await content(path), loader: "text" }));
  },
};

const entryPoints = [at("pkg/inline/index.js")];
const { outputFiles, metafile } = await build({ ...COMMON, entryPoints, format: "esm", plugins: [inline, glue], metafile: true });
const [{ text }] = outputFiles;
// Files that a bundler would look for and a page would fetch.
const imports = Object.values(metafile.outputs).flatMap((output) => output.imports.map(({ path }) => path));
if (imports.length > 0 || text.includes("import.meta")) throw new Error(`pkg/inline.js refers to other files: ${imports}`);
await writeFile(at("pkg/inline.js"), text);
