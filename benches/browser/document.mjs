// Where measurements are written down.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { ROOT } from "../../tests/e2e/lib/server.mjs";

/**
 * Replaces what stands between two comments of a document.
 * @param {string} document its path in the repository
 * @param {[string, string]} comments
 * @param {string} text
 */
export async function putBetween(document, [begin, end], text) {
  const path = join(ROOT, document);
  const before = await readFile(path, "utf8");
  const [from, to] = [before.indexOf(begin), before.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`${document} has no place for the table`);
  await writeFile(path, `${before.slice(0, from + begin.length)}\n\n${text}\n\n${before.slice(to)}`);
}
