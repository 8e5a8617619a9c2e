// The Markdown documents: links lead somewhere, paragraphs stay short, and a script does what is said of it.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const WORDS_MAX = 90;
/** Folders of what is built or installed. */
const NOT_OURS = new Set(["node_modules", "target", "runs", "out"]);

async function documents(folder) {
  const found = [];
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) {
      if (!NOT_OURS.has(entry.name) && !entry.name.startsWith(".")) found.push(...(await documents(path)));
    } else if (entry.name.endsWith(".md")) found.push(path);
  }
  return found;
}

/** A document without its code, in which nothing is a link, a heading or prose. */
const prose = (text) => text.replace(/^( *)(`{3,}|~{3,}).*\n[^]*?^\1\2 *$/gm, "");

/** The anchors that GitHub gives the headings of a document. */
function anchors(text) {
  const seen = new Map();
  return [...prose(text).matchAll(/^#{1,6} +(.+?) *$/gm)].map(([, heading]) => {
    const plain = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, "$1").toLowerCase();
    const anchor = plain.replace(/[^\p{L}\p{N}\p{M}_ -]/gu, "").replaceAll(" ", "-");
    const times = seen.get(anchor) ?? 0;
    seen.set(anchor, times + 1);
    return times === 0 ? anchor : `${anchor}-${times}`;
  });
}

function links(text) {
  const written = prose(text).replace(/`[^`]*`/g, "");
  const markdown = [...written.matchAll(/\]\(<?([^)\s>]+)>?(?: "[^"]*")?\)/g)];
  return [...markdown, ...written.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, target]) => target);
}

/** Paragraphs and items of lists, each as one text; no tables, headings or quoted HTML. */
function paragraphs(text) {
  const blocks = prose(text).split(/\n\s*\n|\n(?=\s*(?:[-*+]|\d+\.) )/);
  return blocks.map((block) => block.trim()).filter((block) => block && !/^[|#<]/.test(block));
}

/** What is wrong with the links of a document. */
async function broken(path, text) {
  const problems = [];
  for (const link of links(text)) {
    if (/^[a-z][a-z0-9+.-]*:/i.test(link)) continue;
    const [file, anchor] = link.split("#");
    const target = file ? resolve(dirname(path), decodeURIComponent(file)) : path;
    if (!(await stat(target).catch(() => null))) problems.push(`${link}: no such file`);
    else if (anchor && !anchors(file ? await readFile(target, "utf8") : text).includes(anchor)) problems.push(`${link}: no such heading`);
  }
  return problems;
}

const found = await documents(ROOT);

test("there are documents to look at", () => {
  const names = found.map((path) => relative(ROOT, path).replaceAll("\\", "/"));
  for (const name of ["README.md", "docs/glossary.md", "pkg/README.md"]) assert.ok(names.includes(name), name);
});

for (const path of found) {
  const name = relative(ROOT, path);
  const text = await readFile(path, "utf8");
  test(`${name}: every link leads to a file and a heading`, async () => assert.deepEqual(await broken(path, text), []));
  test(`${name}: no paragraph has more than ${WORDS_MAX} words`, () => {
    const long = paragraphs(text).filter((paragraph) => paragraph.split(/\s+/).length > WORDS_MAX);
    assert.deepEqual(long, []);
  });
}

test("each row of a table in the types of the package is on one line", async () => {
  const folder = join(ROOT, "pkg");
  const types = (await readdir(folder)).filter((name) => name.endsWith(".d.ts"));
  assert.ok(types.length > 0);
  for (const name of types) {
    const lines = (await readFile(join(folder, name), "utf8")).split("\n");
    assert.deepEqual(lines.filter((line) => /^ *\* \|.*[^|]$/.test(line)), [], name);
  }
});

test("wrong links and long paragraphs are found", async () => {
  const path = join(ROOT, "README.md");
  const text = "# One `two`: three\n\n[a](#one-two-three) [b](#four) [c](none.md) [d](https://x.y)\n\n```sh\n# five\n[e](no)\n```\n[f](#five)";
  assert.deepEqual(await broken(path, text), ["#four: no such heading", "none.md: no such file", "#five: no such heading"]);
  assert.deepEqual(anchors("# A\n\n## A\n"), ["a", "a-1"]);
  const words = (count) => Array(count).fill("word").join(" ");
  assert.equal(paragraphs(`${words(91)}\n\n| ${words(99)} |\n\n- ${words(50)}\n- ${words(50)}`).length, 3);
});

const PYTHON = process.env.PYTHON ?? "python3";
const noPython = spawnSync(PYTHON, ["--version"]).status !== 0 && `no ${PYTHON}`;

test("cut.py cuts classes out of a larger set", { skip: noPython }, async (t) => {
  const document = await readFile(join(ROOT, "docs/train-your-own.md"), "utf8");
  const [, script] = document.match(/^```python\n(# cut\.py\n.*?)^```$/ms);
  const folder = await mkdtemp(join(tmpdir(), "micro-yolo-"));
  t.after(() => rm(folder, { recursive: true }));
  const names = { 1: "person", 17: "cat", 18: "dog", 19: "horse" };
  const source = {
    images: Array.from({ length: 20 }, (_, id) => ({ id, file_name: `${id}.jpg`, width: 64, height: 48 })),
    // A horse in each picture but two, of which one shows a person.
    annotations: Array.from({ length: 19 }, (_, id) => ({ id, image_id: id, category_id: id === 7 ? 1 : 19, bbox: [1, 2, 3, 4] })),
    categories: Object.entries(names).map(([id, name]) => ({ id: Number(id), name })),
  };
  await writeFile(join(folder, "cut.py"), script);
  await writeFile(join(folder, "larger.json"), JSON.stringify(source));
  const { stdout, stderr } = spawnSync(PYTHON, ["cut.py", "larger.json"], { cwd: folder, encoding: "utf8" });
  assert.deepEqual([stdout, stderr], ["pets-train 16 photographs\npets-val 2 photographs\n", ""]);
  const [train, val] = await Promise.all(
    ["pets-train", "pets-val"].map(async (part) => JSON.parse(await readFile(join(folder, `${part}.json`), "utf8"))),
  );
  assert.deepEqual(val.images, [source.images[0], source.images[10]]);
  assert.ok(!train.images.some(({ id }) => [0, 7, 10, 19].includes(id)));
  assert.deepEqual(val.annotations.map(({ image_id, category_id }) => [image_id, category_id]), [[0, 3], [10, 3]]);
  assert.deepEqual(train.categories, [{ id: 1, name: "cat" }, { id: 2, name: "dog" }, { id: 3, name: "horse" }]);
});
