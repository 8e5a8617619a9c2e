/**
 * The name of the platform class. Unlike `instanceof`, this also works for objects of another window or of Node's `vm`,
 * and if the class does not exist. Node's `Buffer` is a `Uint8Array`.
 * @param {unknown} value
 */
export function kindOf(value) {
  return Object.prototype.toString.call(value).slice(8, -1);
}
