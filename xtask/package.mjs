// Makes the npm package as it is published: pkg/ with minified JavaScript, and the entries also as CommonJS. Usage:
// `node xtask/package.mjs FOLDER`, after pkg/wasm and pkg/inline.js are built.
//
// Each module is minified separately and keeps its name: bundlers look for the addresses in them, and a browser fetches
// only what it needs. There are no source maps and no second copy of the sources, which would be most of the JavaScript
// in the tarball. The readable sources are pkg/ in the repository, at the tag of the version.
//
// CommonJS is for tools that accept nothing else: Jest by default, and Node before 20.19. It has one file per entry,
// and reads engine and model from the disk. Bundlers use the modules (the condition `module` in package.json).
import { cp, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build, transform } from "esbuild";
import { glue, isGlue, withText } from "./glue.mjs";

const SOURCE = fileURLToPath(new URL("../pkg/", import.meta.url));
/** The oldest supported browsers. */
const TARGET = ["chrome96", "firefox102", "safari16.4"];
/** Entries that also exist as CommonJS. `inline` is not needed, because it equals `small` where files can be read. */
const COMMON_JS = ["index", "small", "draw", "element"];
const TYPES = [...COMMON_JS, "inline"];

const [to] = process.argv.slice(2);
if (!to) throw new Error("say where to: node xtask/package.mjs FOLDER");

await rm(to, { recursive: true, force: true });
for (const folder of ["", "wasm"]) {
  await mkdir(join(to, folder), { recursive: true });
  for (const entry of await readdir(join(SOURCE, folder), { withFileTypes: true })) {
    const path = join(folder, entry.name);
    // Hidden files belong to the build.
    if (!entry.isFile() || entry.name.startsWith(".") || entry.name.endsWith(".tgz")) continue;
    if (!entry.name.endsWith(".js") || entry.name === "inline.js") {
      await cp(join(SOURCE, path), join(to, path));
      continue;
    }
    const text = await readFile(join(SOURCE, path), "utf8");
    const { code, warnings } = await transform(isGlue(join(SOURCE, path)) ? withText(text) : text, {
      minify: true,
      format: "esm",
      target: TARGET,
      sourcefile: path,
    });
    if (warnings.length > 0) throw new Error(`${path}: ${warnings[0].text}`);
    await writeFile(join(to, path), code);
  }
}

/** What the element takes from other entries stays there: one `Detector`, one `MicroYoloError`. */
const others = {
  name: "others",
  setup({ onResolve }) {
    onResolve({ filter: /^\.\/(index|error|draw)\.js$/ }, ({ path, importer }) => {
      if (!importer.endsWith("element.js")) return undefined;
      return { path: path === "./draw.js" ? "./draw.cjs" : "./index.cjs", external: true };
    });
  },
};
const { outputFiles } = await build({
  entryPoints: COMMON_JS.map((name) => join(SOURCE, `${name}.js`)),
  outdir: to,
  outExtension: { ".js": ".cjs" },
  bundle: true,
  minify: true,
  format: "cjs",
  platform: "node",
  target: "node18",
  define: { "import.meta.url": "IMPORT_META_URL" },
  plugins: [glue, others],
  logLevel: "warning",
  write: false,
});
for (const { path, text } of outputFiles) {
  // Written out at each address: so @vercel/nft, which copies what a server needs, finds the files.
  await writeFile(path, text.replaceAll("IMPORT_META_URL", 'require("node:url").pathToFileURL(__filename).href'));
}
for (const name of TYPES) {
  const text = await readFile(join(SOURCE, `${name}.d.ts`), "utf8");
  await writeFile(join(to, `${name}.d.cts`), text.replaceAll(/(from "\.\/\w+)\.js"/g, '$1.cjs"'));
}
