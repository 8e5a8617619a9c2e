// Rows of thumbnails to choose from: the samples, and the visitor's files.

/**
 * @typedef {object} Choice
 * @property {string} name
 * @property {string | undefined} thumb address of its small picture
 * @property {boolean} [video]
 * @property {() => void} show
 */

export class Strip {
  #list;
  /** @type {HTMLButtonElement[]} */
  #buttons = [];

  /** @param {HTMLElement} list */
  constructor(list) {
    this.#list = list;
    list.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const at = this.#buttons.indexOf(/** @type {HTMLButtonElement} */ (document.activeElement));
      if (!step || at < 0) return;
      event.preventDefault();
      this.#buttons.at((at + step) % this.#buttons.length).focus();
    });
  }

  /** @param {readonly Choice[]} choices */
  fill(choices) {
    this.#buttons = choices.map(({ name, thumb, video, show }) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "thumb";
      if (thumb) {
        const image = Object.assign(new Image(), { alt: "", src: thumb, width: 96, height: 64 });
        image.addEventListener("error", () => image.replaceWith(placeholder("?")));
        button.append(image);
      } else {
        button.append(placeholder("▶"));
      }
      if (video && thumb) button.append(Object.assign(document.createElement("b"), { textContent: "▶", ariaHidden: "true" }));
      button.append(Object.assign(document.createElement("span"), { className: "name", textContent: name }));
      button.addEventListener("click", show);
      return button;
    });
    this.#list.replaceChildren(
      ...this.#buttons.map((button) => {
        const item = document.createElement("li");
        item.append(button);
        return item;
      }),
    );
  }

  /** @param {number} index of the one that is shown; -1 for none */
  mark(index) {
    this.#buttons.forEach((button, at) => {
      if (at === index) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    });
  }
}

function placeholder(text) {
  return Object.assign(document.createElement("i"), { className: "placeholder", textContent: text, ariaHidden: "true" });
}
