// The class filter: class names chosen one by one, shown as buttons that remove them.

export class ClassFilter {
  #chosen = [];
  #known = [];
  #elements;
  #onChange;

  /**
   * @param {{ form: HTMLFormElement, input: HTMLInputElement, options: HTMLDataListElement, chips: HTMLElement }} elements
   * @param {(classes: string[]) => void} onChange
   */
  constructor(elements, onChange) {
    this.#elements = elements;
    this.#onChange = onChange;
    elements.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#add();
    });
    // A name chosen from the list is added without another click.
    elements.input.addEventListener("change", () => this.#add());
  }

  /** @param {readonly string[]} labels what the models know */
  know(labels) {
    this.#known = [...labels];
    this.#elements.options.replaceChildren(...this.#known.map((label) => new Option(label, label)));
    this.#elements.input.placeholder = `all ${labels.length}`;
  }

  /** @param {readonly string[]} classes */
  set(classes) {
    if (JSON.stringify(classes) === JSON.stringify(this.#chosen)) return; // A focused button keeps the focus.
    this.#chosen = [...new Set(classes)];
    this.#show();
  }

  #add() {
    const { input } = this.#elements;
    const wanted = input.value.trim().toLowerCase();
    if (!wanted) return;
    const label = this.#known.find((one) => one.toLowerCase() === wanted);
    input.setCustomValidity(label ? "" : "No model here knows that class.");
    input.reportValidity();
    input.addEventListener("input", () => input.setCustomValidity(""), { once: true });
    if (!label) return;
    input.value = "";
    if (this.#chosen.includes(label)) return;
    this.#change([...this.#chosen, label]);
  }

  #change(classes) {
    this.#chosen = classes;
    this.#show();
    this.#onChange([...classes]);
  }

  #show() {
    this.#elements.chips.replaceChildren(
      ...this.#chosen.map((label) => {
        const button = document.createElement("button");
        button.type = "button";
        button.className = "chip";
        button.setAttribute("aria-label", `Remove ${label}`);
        button.append(label, Object.assign(document.createElement("span"), { textContent: "×", ariaHidden: "true" }));
        button.addEventListener("click", () => {
          this.#change(this.#chosen.filter((one) => one !== label));
          this.#elements.input.focus(); // The focused button was removed, so the focus moves.
        });
        return button;
      }),
    );
  }
}
