// Makes the npm package as it is shipped: pkg/ with its JavaScript minified. `node xtask/package.mjs FOLDER`, once pkg/wasm and
// pkg/inline.js are there.
//
// Each file is minified by itself and keeps its name: bundlers look for the addresses written in them, and a browser fetches
// what it needs and no more. No source maps and no second copy of the sources: they would be most of the JavaScript in the
// tarball. The readable sources are pkg/ in the repository, at the tag of the version.
import { cp, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { transform } from "esbuild";

const SOURCE = fileURLToPath(new URL("../pkg/", import.meta.url));
/** The oldest browsers that the package names. */
const TARGET = ["chrome96", "firefox102", "safari16.4"];

const [to] = process.argv.slice(2);
if (!to) throw new Error("say where to: node xtask/package.mjs FOLDER");

await rm(to, { recursive: true, force: true });
for (const folder of ["", "wasm"]) {
  await mkdir(join(to, folder), { recursive: true });
  for (const entry of await readdir(join(SOURCE, folder), { withFileTypes: true })) {
    const path = join(folder, entry.name);
    // Hidden files are the build's own notes.
    if (!entry.isFile() || entry.name.startsWith(".") || entry.name.endsWith(".tgz")) continue;
    if (!entry.name.endsWith(".js") || entry.name === "inline.js") {
      await cp(join(SOURCE, path), join(to, path));
      continue;
    }
    const { code, warnings } = await transform(await readFile(join(SOURCE, path), "utf8"), {
      minify: true,
      format: "esm",
      target: TARGET,
      sourcefile: path,
    });
    if (warnings.length > 0) throw new Error(`${path}: ${warnings[0].text}`);
    await writeFile(join(to, path), code);
  }
}
