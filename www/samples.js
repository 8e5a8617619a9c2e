// The samples: scripts/samples.mjs makes them from the three photographs in data/samples.

/**
 * @typedef {object} Sample
 * @property {string} id as links name it
 * @property {string} name
 * @property {string} file below ./samples/
 * @property {string[]} shows labels that the site's first model finds in it, which a test checks
 * @property {string[]} [also] other correct labels: a better model may find them too
 */

const AROUND_A_CUP = ["dining table", "spoon"];

/** @type {Sample[]} */
export const SAMPLES = [
  { id: "trio", name: "All three", file: "scenes/trio.jpg", shows: ["cat", "cup", "person"], also: AROUND_A_CUP },
  { id: "cat", name: "Cat", file: "cat.jpg", shows: ["cat"] },
  { id: "astronaut", name: "Astronaut", file: "astronaut.jpg", shows: ["person"] },
  { id: "breakfast", name: "Breakfast", file: "scenes/breakfast.jpg", shows: ["cat", "cup"], also: AROUND_A_CUP },
  { id: "tour", name: "Video: tour", file: "scenes/tour.mp4", shows: ["cat", "person"], also: AROUND_A_CUP },
  { id: "two-cups", name: "Two cups", file: "scenes/two-cups.jpg", shows: ["cup"], also: AROUND_A_CUP },
  { id: "four-squares", name: "Collage", file: "scenes/four-squares.jpg", shows: ["cat", "cup", "person"], also: AROUND_A_CUP },
  { id: "coffee-break", name: "Coffee", file: "scenes/coffee-break.jpg", shows: ["cup", "person"], also: AROUND_A_CUP },
  { id: "cat-film", name: "Video: cat", file: "scenes/cat-film.mp4", shows: ["cat"] },
  { id: "crew", name: "Crew", file: "scenes/crew.jpg", shows: ["person"] },
  { id: "old-photograph", name: "Old photo", file: "scenes/old-photograph.jpg", shows: ["cat"] },
];

/** @param {string} id */
export const sampleOf = (id) => SAMPLES.find((sample) => sample.id === id);
