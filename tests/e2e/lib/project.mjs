// A user's project: the package packed, installed from the tarball, and apps beside it.
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { ROOT } from "./server.mjs";

export const run = promisify(execFile);

/** `base` may be anything, so that a bundle works under any address. */
export const html = (script) => `<!doctype html><title>waiting</title><script type="module" src="${script}"></script>`;

/** Packs the package and installs it. */
export async function installed() {
  const folder = await mkdtemp(join(tmpdir(), "micro-yolo-"));
  const shipped = join(folder, "shipped");
  await run("node", [join(ROOT, "xtask/package.mjs"), shipped]);
  const { stdout } = await run("npm", ["pack", "--json", "--pack-destination", folder], { cwd: shipped });
  const [packed] = JSON.parse(stdout);
  await writeFile(join(folder, "package.json"), JSON.stringify({ name: "app", private: true, type: "module" }));
  const tarball = join(folder, packed.filename);
  await run("npm", ["install", "--offline", "--no-audit", "--no-fund", tarball], { cwd: folder });
  return {
    folder,
    packed,
    /** Where the package is. */
    home: join(folder, "node_modules/micro-yolo"),

    /**
     * Writes an app that is a folder of the project, with the picture of the cat in its `public`.
     * @param {string} name
     * @param {Record<string, string>} files
     */
    async app(name, files) {
      const root = join(folder, name);
      await mkdir(join(root, "public"), { recursive: true });
      await cp(join(ROOT, "data/samples/cat.jpg"), join(root, "public/cat.jpg"));
      for (const [path, text] of Object.entries(files)) {
        await mkdir(dirname(join(root, path)), { recursive: true });
        await writeFile(join(root, path), text);
      }
      return root;
    },

    remove: () => rm(folder, { recursive: true, force: true }),
  };
}

/** Opens an address and waits until the page has said, in its title, what it saw. */
export async function whatIsSeen(page, url) {
  const errors = [];
  // Firefox also calls what it notes about policies an error.
  const note = /Content-Security-Policy|Loading Worker from|Cross-Origin/;
  page.on("pageerror", (error) => note.test(String(error)) || errors.push(String(error)));
  await page.goto(url);
  const deadline = Date.now() + 60_000;
  for (;;) {
    // The page may just be loading itself again.
    const title = await page.title().catch(() => "waiting");
    if (title !== "waiting" && title !== "") return title;
    if (errors.length || Date.now() > deadline) throw new Error(`nothing was seen: ${errors.join("; ") || "no answer"}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
