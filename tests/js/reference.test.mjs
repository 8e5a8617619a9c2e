// The package's README, its types and its code name the same options, fields, attributes and error codes.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { MicroYoloElement } from "../../pkg/element.js";
import { defaultSettings } from "../../pkg/settings.js";

const read = (path) => readFile(new URL(`../../pkg/${path}`, import.meta.url), "utf8");
const [readme, types, drawTypes, elementTypes] = await Promise.all(["README.md", "index.d.ts", "draw.d.ts", "element.d.ts"].map(read));

/** The names in code style at the start of a text: of "`width`, `height`" both. */
const names = (text) => [...text.matchAll(/`([\w-]+)`/g)].map(([, name]) => name);

/** What the README's table with this head names in its first column. */
function rows(head) {
  const at = readme.indexOf(`\n| ${head} `);
  assert.ok(at >= 0, `pkg/README.md has no table "${head}"`);
  const [, , ...lines] = readme.slice(at + 1).split("\n\n")[0].split("\n");
  return lines.flatMap((line) => names(line.split("|")[1]));
}

/** The members that a declaration of the types has, without those that it inherits. */
function members(text, declaration) {
  const body = new RegExp(`^export ${declaration}\\b[^{]*\\{\\n(.*?)^\\}`, "ms").exec(text)?.[1];
  assert.ok(body, `the types have no "${declaration}"`);
  return [...body.matchAll(/^ {2}(?:readonly )?"?([\w-]+)"?\??:/gm)].map(([, name]) => name);
}

const same = (found, wanted, message) => assert.deepEqual(found.toSorted(), wanted.toSorted(), message);

test("options are documented, declared and known to the code, all of them in all three", async () => {
  const [load, detector, settings] = await Promise.all(["load.js", "detector.js", "settings.js"].map(read));
  const quoted = (text) => [...text.matchAll(/"([\w-]+)"/g)].map(([, name]) => name);
  /** What the code takes as options of a call. */
  const known = (text, start) => {
    const list = text.split(start)[1]?.split("]")[0];
    assert.ok(list, `${start} is nowhere in the code`);
    return quoted(list);
  };
  const ofLoad = [...members(types, "interface LoadOptions"), ...members(types, "interface DetectorSettings")];
  assert.ok(ofLoad.length >= 13, String(ofLoad));
  same(rows("option of `Detector.load()`"), ofLoad, "Detector.load()");
  same([...known(load, "const OPTIONS = ["), ...Object.keys(defaultSettings)], ofLoad, "load.js");
  for (const call of ["detect", "watch"]) {
    const declared = members(types, `interface ${call[0].toUpperCase()}${call.slice(1)}Options`);
    same(rows(`option of \`${call}()\``), declared, `${call}()`);
    same(known(detector, `checkOptions("${call}()", options, [`), declared, "detector.js");
  }
  const limits = members(types, "interface Limits");
  same(/^\| `limits` .*?`\{ (.*?) \}`/m.exec(readme)[1].split(", "), limits, "limits");
  same(known(settings, 'checkOptions("`limits`", value, ['), limits, "settings.js");
});

test("options of drawObjects() are documented, declared and read by the code", async () => {
  const declared = members(drawTypes, "interface DrawOptions");
  same(rows("option of `drawObjects(canvas, objects, …)`"), declared, "drawObjects()");
  const [, body] = (await read("draw.js")).split("export function drawObjects(");
  const [text] = body.split("\n}\n");
  const taken = [...text.matchAll(/const \{ (.*) \} = options;/g)].flatMap(([, list]) => [...list.matchAll(/(?:^|, )(\w+)(?=,| =|$)/g)]);
  same([...new Set([...taken, ...text.matchAll(/\boptions\.(\w+)/g)].map(([, name]) => name))], declared, "draw.js");
});

test("what a detector and a frame have is documented and declared", () => {
  const [, list] = readme.split("\nA detector also has:\n\n");
  const documented = list.split("\n\n")[0].split("\n- ").flatMap((item) => names(item.replace(/^- /, "").split(":")[0]));
  // Settings are options first, and stand there.
  const declared = members(types, "class Detector").filter((name) => !(name in defaultSettings));
  same(documented, declared, "a detector has");
  const timing = /- `timing`: ([^]*?)\n- /.exec(list)[1];
  same(names(timing), members(types, "interface Timing"), "timing");
  same(names(/- `foreign`: .*?each with ([^]*?)\n- /s.exec(list)[1]), members(types, "interface ForeignNode"), "foreign");
  const [, fields] = /The fields of `frame` are (.*?\(from taking)/s.exec(readme);
  const frame = /^ {2}frame: \{\n(.*?)^ {2}\};/ms.exec(types)[1];
  same(names(fields), [...frame.matchAll(/^ {4}(\w+):/gm)].map(([, name]) => name), "frame");
});

test("attributes and events of the element are documented, declared and observed", () => {
  const observed = MicroYoloElement.observedAttributes;
  assert.ok(observed.length >= 6, String(observed));
  same(rows("attribute"), observed, "pkg/README.md");
  same(members(elementTypes, "interface MicroYoloAttributes"), observed, "MicroYoloAttributes");
  same([...elementTypes.matchAll(/^ \* \| `([\w-]+)` \|/gm)].map(([, name]) => name), observed, "the table in element.d.ts");
  const events = members(elementTypes, "interface MicroYoloElementEventMap");
  same([...readme.matchAll(/dispatches (?:the event )?`([\w-]+)`/g)].map(([, name]) => name), events, "events");
});

test("error codes are documented in both tables, and declared", () => {
  const codes = [...types.matchAll(/^ {2}\| "([a-z-]+)"/gm)].map(([, code]) => code);
  assert.ok(codes.length >= 19, String(codes));
  assert.deepEqual([...types.matchAll(/^ \* \| `([a-z-]+)` \|/gm)].map(([, code]) => code), codes, "the table in index.d.ts");
  assert.deepEqual(rows("code"), codes, "pkg/README.md");
});
