// Colours of classes. The 80 hues of the package's own scheme are 4.5 degrees apart, so that person, laptop and bowl are
// three greens; the page gives a class the next of twelve colours when it first meets it.

/** Light enough for dark text, neighbours in the list far apart in hue. */
export const PALETTE = [
  "#7ee081", // green
  "#ffb14a", // orange
  "#7cc4ff", // blue
  "#ff8fb8", // pink
  "#f5e663", // yellow
  "#c3a4ff", // violet
  "#5fe0d0", // turquoise
  "#ff9a85", // red
  "#c6e86a", // lime
  "#f0a6f5", // magenta
  "#97a3ff", // indigo
  "#e0c08c", // sand
];

/**
 * A function that gives each class a colour and keeps to it.
 * @returns {(label: string) => string}
 */
export function createPalette() {
  /** @type {Map<string, string>} */
  const colors = new Map();
  return (label) => {
    let color = colors.get(label);
    if (!color) {
      color = PALETTE[colors.size % PALETTE.length];
      colors.set(label, color);
    }
    return color;
  };
}
