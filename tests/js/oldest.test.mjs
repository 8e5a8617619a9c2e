// Nothing in the package and the page is younger than the oldest browsers that they are said to run in, unless it is looked for
// before it is used. Two of these browsers nobody can install here: Firefox 102 and Safari 16.4.
import assert from "node:assert/strict";
import { readFile, readdir } from "node:fs/promises";
import { test } from "node:test";
import { transform } from "esbuild";

const at = (path) => new URL(`../../${path}`, import.meta.url);
const read = (path) => readFile(at(path), "utf8");

/** As the package's README says them. */
const TARGET = ["chrome96", "firefox102", "safari16.4"];

const files = [];
for (const folder of ["pkg", "pkg/inline", "pkg/wasm", "www"]) {
  for (const name of await readdir(at(folder))) {
    // Made of files that are here.
    if (/\.(js|css|html)$/.test(name) && `${folder}/${name}` !== "pkg/inline.js") files.push(`${folder}/${name}`);
  }
}

/** What a file has of code, in the syntax of these browsers. Without comments where it is made short. */
async function code(file, { target = TARGET, minifyWhitespace = false } = {}) {
  const text = await read(file);
  const loader = file.endsWith(".css") ? "css" : "js";
  const script = file.endsWith(".html") ? [...text.matchAll(/<script>(.*?)<\/script>/gs)].map(([, body]) => body).join("\n") : text;
  return (await transform(script, { target, loader, minifyWhitespace })).code;
}

test("all documents and the page name the same oldest browsers", async () => {
  const said = {
    "README.md": /Chrome (\d+), Firefox (\d+), Safari ([\d.]+\d)/,
    "CHANGELOG.md": /Chrome (\d+), Firefox (\d+) or Safari ([\d.]+\d)/,
    "pkg/README.md": /Chrome (\d+), Firefox (\d+), Safari ([\d.]+\d)/,
    "pkg/index.d.ts": /Chrome (\d+), Firefox (\d+) or Safari ([\d.]+\d)/,
    "www/index.html": /Chrome (\d+), Firefox (\d+), Safari ([\d.]+\d)/,
  };
  for (const [file, words] of Object.entries(said)) {
    const [, chrome, firefox, safari] = words.exec((await read(file)).replace(/\n[ *]*/g, " ")) ?? assert.fail(`${file} does not say it`);
    assert.deepEqual([`chrome${chrome}`, `firefox${firefox}`, `safari${safari}`], TARGET, file);
  }
  const table = (await read("pkg/README.md")).match(/^\| (?:Chrome|Firefox|Safari).*$/gm).map((row) => row.split("|")[2].trim());
  assert.deepEqual(table, ["96", "102; `inline` 113", "16.4"]);
});

test("the syntax is theirs", async () => {
  const lowered = async (text, loader) => {
    const [old, now] = await Promise.all([TARGET, ["esnext"]].map((target) => transform(text, { target, loader })));
    return old.code !== now.code;
  };
  for (const [text, loader] of [["using one = f();", "js"], ["x = /[a--b]/v;", "js"], ["a { b { top: 0 } }", "css"], ["a { color: oklch(50% 0.1 0) }", "css"]]) {
    assert.ok(await lowered(text, loader), `${text} would be seen`);
  }
  for (const file of files) assert.equal(await code(file), await code(file, { target: ["esnext"] }), file);
});

/** Younger names of JavaScript and the DOM, and where one may stand: looked for before it is used, as its line says. */
const YOUNGER = [
  [/\bfindLast(Index)?\b/, "Chrome 97, Firefox 104"],
  [/\.(toSorted|toReversed|toSpliced|with)\(/, "Chrome 110, Firefox 115"],
  [/\b(fromAsync|groupBy|withResolvers|isWellFormed|toWellFormed)\b/, "2023 and 2024"],
  [/\b(Promise\.try|Iterator\.from|Error\.isError|RegExp\.escape|Math\.sumPrecise)\b/, "2025"],
  [/\.(union|intersection|difference|symmetricDifference|isSubsetOf|isSupersetOf|isDisjointFrom)\(/, "2024"],
  [/\.(values|keys|entries)\(\)\.(map|filter|find|some|every|reduce|toArray|forEach|take|drop)\b/, "iterators have them since 2025"],
  [/\b(toHex|fromHex|toBase64|fromBase64)\b/, "2025", "pkg/inline/parts.js"],
  [/\bstructuredClone\b/, "Chrome 98"],
  [/\bthrowIfAborted\b/, "Chrome 100"],
  [/\bAbortSignal\.(timeout|any)\b/, "Chrome 103 and 116"],
  [/\bURL\.(canParse|parse)\b/, "Chrome 120, Firefox 115"],
  [/\.bytes\(\)/, "Chrome 132, Firefox 128"],
  [/\bReadableStream\.from\b/, "Firefox 117"],
  [/\b(Dec|C)ompressionStream\b/, "Firefox 113", "pkg/inline/parts.js"],
  [/\b(checkVisibility|startViewTransition|scheduler|showPicker|moveBefore|setHTMLUnsafe|getHTML|parseHTMLUnsafe)\b/, "2022 to 2025"],
  [/\b(show|hide|toggle)Popover\b|"(popover|inert)"|\.inert\b|scrollend/, "Firefox 112 and later"],
  [/\badoptedStyleSheets\.push\b/, "Chrome 99"],
  [/\bIntl\.(Segmenter|DurationFormat)\b/, "Firefox 125"],
  [/\bHTMLScriptElement\.supports\b|\buserActivation\b|\bnavigator\.userAgentData\b/, "not in all three"],
  [/\broundRect\b/, "Chrome 99, Firefox 112", "pkg/draw.js"],
  [/\bSymbol\.(asyncD|d)ispose\b/, "Chrome 134", "pkg/detector.js", "pkg/wasm/micro_yolo.js", "pkg/wasm/micro_yolo_full.js", "pkg/wasm/micro_yolo_threads.js"],
  [/\bOffscreenCanvas\b/, "Firefox 105", "pkg/canvas.js", "pkg/source.js"],
  [/\bVideoFrame\(/, "Firefox 130", "pkg/frames.js", "pkg/source.js"],
  [/\brequestVideoFrameCallback\b/, "Firefox 132", "pkg/frames.js", "pkg/source.js", "www/frames.js"],
  [/\bClipboardItem\b/, "Firefox 127", "www/app.js"],
];

test("what is younger is looked for before it is used", async () => {
  const scripts = await Promise.all(files.filter((file) => !file.endsWith(".css")).map(async (file) => [file, await code(file, { minifyWhitespace: true })]));
  for (const [name, since, ...allowed] of YOUNGER) {
    const found = scripts.filter(([, text]) => name.test(text)).map(([file]) => file);
    assert.deepEqual(found, allowed, `${name}: ${since}`);
  }
  const html = await read("www/index.html");
  assert.doesNotMatch(html, /<[^>]* (popover|inert|commandfor|closedby)\b/);
});

test("what is younger in the style sheet is mere decoration, or has an @supports", async () => {
  const css = await code("www/style.css");
  const guarded = css.match(/@supports[^{]*\{(?:[^{}]*\{[^{}]*\})*\s*\}/g);
  assert.equal(guarded.length, 1);
  const rest = css.replace(guarded[0], "");
  for (const [name, since] of [
    [/:has\(/, "Chrome 105, Firefox 121"],
    [/color-mix\(|light-dark\(|okl(ab|ch)\(|\b(lab|lch|color)\(/, "Chrome 111, Firefox 113"],
    [/\d[dsl]v[hwib]\b|\dcq/, "Chrome 108"],
    [/@(container|layer|scope|property|starting-style)\b/, "Chrome 99 and later"],
    [/^\s*(translate|rotate|scale):/m, "Chrome 104"],
    [/@media[^{]*[<>]/, "Chrome 104"],
    [/subgrid|anchor|field-sizing|interpolate-size|\b(round|mod|rem|sin|abs)\(/, "2023 and later"],
    [/:(user-valid|user-invalid|popover-open|open)\b|nth-child\([^)]* of /, "2023 and later"],
  ]) {
    assert.doesNotMatch(rest, name, since);
  }
});
