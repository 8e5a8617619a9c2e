// The live region for screen readers. Each sentence stays for a while, so that it is not interrupted.

const STANDS_MS = 2500;

/** @param {HTMLElement} region with aria-live */
export function createSpeaker(region) {
  let last = -Infinity;
  let next;
  /**
   * @param {string} text
   * @param {boolean} [atOnce] for the result of an action of the visitor
   */
  return (text, atOnce = false) => {
    clearTimeout(next);
    const say = () => {
      if (region.textContent === text) return;
      region.textContent = text;
      last = performance.now();
    };
    const wait = atOnce ? 0 : last + STANDS_MS - performance.now();
    if (wait <= 0) say();
    else next = setTimeout(say, wait);
  };
}
