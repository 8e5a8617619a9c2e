// Errors as Node prints them.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { test } from "node:test";
import { build } from "esbuild";

const PACKAGE = fileURLToPath(new URL("../../pkg/", import.meta.url));

/** What a program says that dies of an error of the package, all in one file as servers are bundled. */
async function lastWords(minify, format) {
  const contents = `import { MicroYoloError } from "./error.js"; throw new MicroYoloError("network", "the file is missing");`;
  const bundle = { stdin: { contents, resolveDir: PACKAGE }, bundle: true, write: false, platform: "node", minify, format };
  const [{ text }] = (await build(bundle)).outputFiles;
  assert.equal(/class MicroYoloError|MicroYoloError = class/.test(text), !minify, "a minifier shortens the name of the class");
  const type = format === "cjs" ? "commonjs" : "module";
  return new Promise((resolve) => {
    execFile("node", [`--input-type=${type}`, "--eval", text], (error, stdout, stderr) => resolve(stderr));
  });
}

for (const format of ["esm", "cjs"]) {
  test(`an uncaught error says its name, its message and its code, minified or not (${format})`, async () => {
    for (const minify of [false, true]) {
      const said = await lastWords(minify, format);
      assert.match(said, /^MicroYoloError: the file is missing\n {4}at .*\{\n {2}code: 'network'\n\}/ms, said);
    }
  });
}
