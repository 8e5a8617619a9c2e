/**
 * The name of the platform class: unlike `instanceof`, right for objects of another window or of node's `vm`, and safe
 * where the class does not exist. Node's `Buffer` is a `Uint8Array`.
 * @param {unknown} value
 */
export function kindOf(value) {
  return Object.prototype.toString.call(value).slice(8, -1);
}
