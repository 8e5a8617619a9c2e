// The models that can be chosen: those of the site, and the visitor's own.

/**
 * @typedef {object} Model
 * @property {string} id
 * @property {string} name
 * @property {number} [bytes]
 * @property {number} [ap50] AP50 on 192 photographs of COCO at the model's own input size, in percent
 * @property {string | Blob | undefined} source as `Detector.load` takes it; `undefined` is the one inside the package
 */

/**
 * Sizes are those of the files in models/, accuracies those in benches/accuracy.json. A test compares them.
 * @type {Model[]}
 */
export const MODELS = [
  { id: "large-int8", name: "Large, int8", bytes: 1_454_734, ap50: 43.3, source: undefined },
  { id: "large-float", name: "Large, float", bytes: 2_358_925, ap50: 42.9, source: "./models/micro-yolo.onnx" },
  { id: "small-int8", name: "Small, int8", bytes: 1_174_717, ap50: 35.7, source: "./models/micro-yolo-s-int8.onnx" },
  { id: "small-float", name: "Small, float", bytes: 1_837_098, ap50: 36.6, source: "./models/micro-yolo-s.onnx" },
  {
    id: "yolov3-tiny-int8",
    name: "YOLOv3-tiny, compressed, int8",
    bytes: 2_737_221,
    ap50: 33.3,
    source: "./models/micro-yolov3-tiny-int8.onnx",
  },
];

/** The file in models/ of each model. */
export const FILES = {
  "large-int8": "micro-yolo-int8.onnx",
  "large-float": "micro-yolo.onnx",
  "small-int8": "micro-yolo-s-int8.onnx",
  "small-float": "micro-yolo-s.onnx",
  "yolov3-tiny-int8": "micro-yolov3-tiny-int8.onnx",
};

/** @type {Map<string, Model>} */
const own = new Map();
let count = 0;

/**
 * Adds a model of the visitor.
 * @param {{ name: string, blob: Blob, url?: string }} file its URL, if it has one, is its id, so that a link can name it
 * @returns {Model}
 */
export function addOwn({ name, blob, url }) {
  const id = url ?? `own-${(count += 1)}`;
  const model = { id, name, bytes: blob.size, source: blob };
  own.set(id, model);
  return model;
}

/** @returns {Model[]} */
export const allModels = () => [...MODELS, ...own.values()];

/**
 * @param {string} id
 * @returns {Model | undefined}
 */
export const modelOf = (id) => allModels().find((model) => model.id === id);

/**
 * With 192 photographs, a tenth of a percent is not significant.
 * @param {Model} model
 */
export function optionText({ name, bytes, ap50 }) {
  const size = bytes && (bytes < 1e5 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);
  const facts = [size, ap50 && `AP50 ${Math.round(ap50)}`].filter(Boolean);
  return facts.length ? `${name} (${facts.join(", ")})` : name;
}
