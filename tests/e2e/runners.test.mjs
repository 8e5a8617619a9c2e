// The package in tests of its users, run by Jest (CommonJS, its default, and modules) and Vitest, where they are plain and where
// they pretend to be a page (jsdom). In each the cat is found in pixels that a decoder for Node gives.
import assert from "node:assert/strict";
import { cp, mkdir, rm, symlink, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";
import { join } from "node:path";
import { installed, run } from "./lib/project.mjs";
import { ROOT } from "./lib/server.mjs";

const resolve = createRequire(import.meta.url).resolve;

/** What a user writes. */
const DETECTS = `
import { readFileSync } from "node:fs";
import jpeg from "jpeg-js";
import { Detector, MicroYoloError } from "micro-yolo";
import { Detector as Small } from "micro-yolo/small";
import { Detector as Inline } from "micro-yolo/inline";

const picture = jpeg.decode(readFileSync("cat.jpg"), { useTArray: true });
for (const [entry, It] of Object.entries({ Detector, Small, Inline })) {
  test(entry + " finds the cat", async () => {
    const detector = await It.load({ inputSize: 224 });
    const [{ label, box }] = await detector.detect(picture);
    expect([label, detector.worker]).toEqual(["cat", false]);
    expect(box.width).toBeGreaterThan(100);
    detector.dispose();
  });
}

test("errors are those that were imported", async () => {
  const error = await Detector.load({ scoreThreshold: 5 }).catch((error) => error);
  expect(error).toBeInstanceOf(MicroYoloError);
  expect(error.code).toBe("invalid-option");
});
`;
/** In jsdom: what components import, and what has no pictures says so. */
const PAGE = `
import { classColor } from "micro-yolo/draw";
import "micro-yolo/element";

test("a page with the element", async () => {
  document.body.innerHTML = '<micro-yolo score-threshold="0.5"><img src="cat.jpg" alt="" /></micro-yolo>';
  const element = document.querySelector("micro-yolo");
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(element.scoreThreshold).toBe(0.5);
  expect(element.objects).toEqual([]);
  element.remove();
  expect(classColor(3)).toMatch(/^rgb/);
});

test("pictures of jsdom", async () => {
  const detector = await Detector.load();
  const code = (source) => detector.detect(source).then(() => "fine", (error) => error.code);
  const blob = new Blob(["x"]);
  expect([await code(blob), await code("cat.jpg"), await code(new Image())]).toEqual(["unsupported", "unsupported", "unsupported"]);
});
`;

let project;
before(async () => {
  project = await installed();
  await symlink(join(ROOT, "node_modules/jpeg-js"), join(project.folder, "node_modules/jpeg-js"));
});
after(async () => await project?.remove());

/** A folder of the project with the picture and a test for each environment. */
async function tests(name, { globals = "", type = "module" } = {}) {
  const root = join(project.folder, name);
  await rm(root, { recursive: true, force: true });
  await mkdir(root, { recursive: true });
  await cp(join(ROOT, "data/samples/cat.jpg"), join(root, "cat.jpg"));
  await writeFile(join(root, "package.json"), JSON.stringify({ type }));
  await writeFile(join(root, "node.test.js"), `${globals}${DETECTS}`);
  await writeFile(join(root, "jsdom.test.js"), `${globals}${DETECTS}${PAGE}`);
  return root;
}

/** The runner's report, and that nothing was printed that worries. */
async function assertPassed(script, args, { root, env = {} }) {
  const { stdout, stderr } = await run(process.execPath, [script, ...args], { cwd: root, env: { ...process.env, NO_COLOR: "1", ...env } }).catch(
    (error) => assert.fail(`${error.stdout}\n${error.stderr}`),
  );
  const report = `${stdout}\n${stderr}`;
  assert.match(report, /Tests:? +10 passed/, report);
  assert.doesNotMatch(report, /console\.(error|warn)|not implemented/i);
}

describe("Jest", () => {
  const jest = resolve("jest/bin/jest");
  const project = (environment, more) => ({
    displayName: environment,
    testEnvironment: resolve(`jest-environment-${environment}`),
    testMatch: [`<rootDir>/${environment}.test.js`],
    ...more,
  });
  const config = (more) => ["--config", JSON.stringify({ projects: ["node", "jsdom"].map((one) => project(one, more)) }), "--runInBand"];

  test("CommonJS, as Babel and TypeScript make it", async () => {
    const root = await tests("jest-commonjs", { type: "commonjs" });
    await writeFile(
      join(root, "transform.cjs"),
      `const { transformSync } = require(${JSON.stringify(resolve("esbuild"))});
       exports.process = (text) => ({ code: transformSync(text, { format: "cjs" }).code });`,
    );
    await assertPassed(jest, config({ transform: { "\\.js$": join(root, "transform.cjs") } }), { root });
  });

  test("modules", async () => {
    const root = await tests("jest-modules");
    const env = { NODE_OPTIONS: "--experimental-vm-modules --no-warnings" };
    await assertPassed(jest, config({ transform: {} }), { root, env });
  });
});

test("Vitest", async () => {
  const root = await tests("vitest", { globals: 'import { expect, test } from "vitest";\n' });
  const modules = join(root, "node_modules");
  await mkdir(modules);
  for (const name of ["vitest", "jsdom"]) await symlink(join(ROOT, "node_modules", name), join(modules, name));
  const environments = ["node", "jsdom"].map((environment) => ({
    test: { name: environment, environment, include: [`${environment}.test.js`] },
  }));
  await writeFile(join(root, "vitest.config.mjs"), `export default ${JSON.stringify({ test: { projects: environments, fileParallelism: false } })};`);
  await assertPassed(join(ROOT, "node_modules/vitest/vitest.mjs"), ["run"], { root });
});
