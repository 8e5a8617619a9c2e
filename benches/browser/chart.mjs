// The bench's table as a picture: for each network and size a bar a runtime, as long as it is fast.

const [BAR, GAP, LABEL, SCALE] = [16, 5, 190, 90];
const COLOURS = [
  [/^micro-yolo int8/, "#0a7d4f"],
  [/^micro-yolo f32/, "#3fae7f"],
  [/./, "#9aa3ab"],
];

const escape = (text) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);

/**
 * An SVG of rows `{ network, size, runtime, frame, ratio }`: milliseconds a frame, and how many times as fast as
 * onnxruntime-web's float frame.
 */
export function chart(rows) {
  const parts = [];
  let y = 24;
  const title = ({ network, size }) => `${network}, ${size} px`;
  for (const name of new Set(rows.map(title))) {
    const group = rows.filter((row) => title(row) === name);
    parts.push(`<text x="8" y="${y}" font-weight="bold">${escape(name)}</text>`);
    y += 10;
    for (const { runtime, frame, ratio } of group.toSorted((a, b) => a.ratio - b.ratio)) {
      const [, colour] = COLOURS.find(([pattern]) => pattern.test(runtime));
      const width = (ratio * SCALE).toFixed(1);
      const base = y + BAR - 4;
      parts.push(
        `<text x="${LABEL - 8}" y="${base}" text-anchor="end">${escape(runtime)}</text>`,
        `<rect x="${LABEL}" y="${y}" width="${width}" height="${BAR}" fill="${colour}"/>`,
        `<text x="${LABEL + Number(width) + 6}" y="${base}">${ratio.toFixed(2)} × (${frame.toFixed(1)} ms)</text>`,
      );
      y += BAR + GAP;
    }
    y += 24;
  }
  const width = LABEL + Math.max(1, ...rows.map(({ ratio }) => ratio)) * SCALE + 130;
  const head = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${Math.ceil(width)} ${y}" font-family="sans-serif" font-size="12">`;
  return `${head}\n<rect width="100%" height="100%" fill="#fff"/>\n${parts.join("\n")}\n</svg>\n`;
}
