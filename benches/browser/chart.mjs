// Pictures of the bench: its table as bars, and accuracy against time.

const [BAR, GAP, LABEL, SCALE] = [16, 5, 190, 90];
const COLOURS = [
  [/^micro-yolo int8/, "#0a7d4f"],
  [/^micro-yolo f32/, "#3fae7f"],
  [/./, "#9aa3ab"],
];

const colourOf = (runtime) => COLOURS.find(([pattern]) => pattern.test(runtime))[1];

/** The name of a runtime in a picture: `micro-yolo` is also the name of a network. */
const shown = (runtime) => runtime.replace(/^micro-yolo/, "this engine").replace(" f32", ", floats").replace(" int8", ", int8");

const escape = (text) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);

const svg = (width, height, parts) =>
  [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${Math.ceil(width)} ${Math.ceil(height)}" font-family="sans-serif" font-size="12">`,
    `<rect width="100%" height="100%" fill="#fff"/>`,
    ...parts,
    "</svg>\n",
  ].join("\n");

/**
 * Bars, as long as a runtime is fast: an SVG of rows `{ network, size, runtime, frame, ratio }`: milliseconds a frame, and how many times as fast as
 * onnxruntime-web's float frame.
 */
export function bars(rows) {
  const parts = [];
  let y = 24;
  const title = ({ network, size }) => `${network}, ${size} px`;
  for (const name of new Set(rows.map(title))) {
    const group = rows.filter((row) => title(row) === name);
    parts.push(`<text x="8" y="${y}" font-weight="bold">${escape(name)}</text>`);
    y += 10;
    for (const { runtime, frame, ratio } of group.toSorted((a, b) => a.ratio - b.ratio)) {
      const width = (ratio * SCALE).toFixed(1);
      const base = y + BAR - 4;
      parts.push(
        `<text x="${LABEL - 8}" y="${base}" text-anchor="end">${escape(shown(runtime))}</text>`,
        `<rect x="${LABEL}" y="${y}" width="${width}" height="${BAR}" fill="${colourOf(runtime)}"/>`,
        `<text x="${LABEL + Number(width) + 6}" y="${base}">${ratio.toFixed(2)} × (${frame.toFixed(1)} ms)</text>`,
      );
      y += BAR + GAP;
    }
    y += 24;
  }
  return svg(LABEL + Math.max(1, ...rows.map(({ ratio }) => ratio)) * SCALE + 130, y, parts);
}

/** Size of a text at 12 px, about. */
const textSize = (text) => ({ width: 7 * text.length, height: 10 });

const meet = (a, b) => a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;

/**
 * The place of a name: right of the last of its points, left of the first, above or below the last. The first place that meets none
 * of the taken rectangles, to which its own is added.
 * @param {string} text
 * @param {{ x: number, y: number }[]} points from left to right
 * @param {{ x: number, y: number, width: number, height: number }[]} taken
 */
function placed(text, points, taken) {
  const { width, height } = textSize(text);
  const [first, last] = [points[0], points.at(-1)];
  const places = [
    { x: last.x + 9, y: last.y - 6 },
    { x: first.x - 9 - width, y: first.y - 6, anchor: "end" },
    { x: last.x, y: last.y - 18 },
    { x: last.x, y: last.y + 8 },
  ].map((place) => ({ ...place, width, height }));
  const place = places.find((one) => !taken.some((other) => meet(one, other))) ?? places[0];
  taken.push(place);
  const start = place.anchor ? place.x + width : place.x;
  return `<text x="${start.toFixed(1)}" y="${(place.y + height).toFixed(1)}"${place.anchor ? ' text-anchor="end"' : ""}>${escape(text)}</text>`;
}

/**
 * AP50 against milliseconds a frame, in logarithms: an SVG of points `{ name, runtime, frame, accuracy }`. A line joins those of
 * one name.
 */
export function scatter(points) {
  const [left, top, width, height] = [52, 20, 560, 320];
  const frames = points.map(({ frame }) => frame);
  const [least, most] = [Math.min(...frames) * 0.8, Math.max(...frames) * 1.2];
  const highest = Math.max(...points.map(({ accuracy }) => accuracy)) * 1.1;
  const x = (frame) => (left + (Math.log(frame / least) / Math.log(most / least)) * width).toFixed(1);
  const y = (accuracy) => (top + height - (accuracy / highest) * height).toFixed(1);
  const parts = [];
  for (const value of [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].filter((value) => value > least && value < most)) {
    parts.push(
      `<path d="M${x(value)} ${top}V${top + height}" stroke="#e3e6e8"/>`,
      `<text x="${x(value)}" y="${top + height + 16}" text-anchor="middle">${value}</text>`,
    );
  }
  for (let value = 0; value < highest; value += 10) {
    parts.push(
      `<path d="M${left} ${y(value)}H${left + width}" stroke="#e3e6e8"/>`,
      `<text x="${left - 6}" y="${Number(y(value)) + 4}" text-anchor="end">${value}</text>`,
    );
  }
  parts.push(
    `<text x="${left + width / 2}" y="${top + height + 36}" text-anchor="middle">ms a frame, one thread</text>`,
    `<text transform="translate(14 ${top + height / 2}) rotate(-90)" text-anchor="middle">coco-val AP50</text>`,
  );
  const at = ({ frame, accuracy }) => ({ x: Number(x(frame)), y: Number(y(accuracy)) });
  const taken = points.map(at).map(({ x, y }) => ({ x: x - 5, y: y - 5, width: 10, height: 10 }));
  for (const name of new Set(points.map(({ name }) => name))) {
    const group = points.filter((point) => point.name === name).toSorted((a, b) => a.frame - b.frame);
    parts.push(
      `<polyline points="${group.map(({ frame, accuracy }) => `${x(frame)},${y(accuracy)}`).join(" ")}" fill="none" stroke="#9aa3ab"/>`,
      ...group.map(({ runtime, frame, accuracy }) => `<circle cx="${x(frame)}" cy="${y(accuracy)}" r="5" fill="${colourOf(runtime)}"/>`),
      placed(name, group.map(at), taken),
    );
  }
  for (const [index, runtime] of ["micro-yolo int8", "micro-yolo f32", "onnxruntime-web f32"].entries()) {
    const line = top + height - 60 + 20 * index;
    parts.push(
      `<circle cx="${left + 20}" cy="${line}" r="5" fill="${colourOf(runtime)}"/>`,
      `<text x="${left + 32}" y="${line + 4}">${shown(runtime)}</text>`,
    );
  }
  return svg(left + width + 110, top + height + 46, parts);
}
