// The Markdown documents: links lead somewhere, and paragraphs stay short.
import assert from "node:assert/strict";
import { readdir, readFile, stat } from "node:fs/promises";
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

test("wrong links and long paragraphs are found", async () => {
  const path = join(ROOT, "README.md");
  const text = "# One `two`: three\n\n[a](#one-two-three) [b](#four) [c](none.md) [d](https://x.y)\n\n```sh\n# five\n[e](no)\n```\n[f](#five)";
  assert.deepEqual(await broken(path, text), ["#four: no such heading", "none.md: no such file", "#five: no such heading"]);
  assert.deepEqual(anchors("# A\n\n## A\n"), ["a", "a-1"]);
  const words = (count) => Array(count).fill("word").join(" ");
  assert.equal(paragraphs(`${words(91)}\n\n| ${words(99)} |\n\n- ${words(50)}\n- ${words(50)}`).length, 3);
});
