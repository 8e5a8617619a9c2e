// Lints of all JavaScript in the repository: the package, the page, tests and benches.
import js from "@eslint/js";
import globals from "globals";

export default [
  { ignores: ["target/", "pkg/wasm/", "pkg/inline.js", "**/node_modules/", "runs/", "out/"] },
  js.configs.recommended,
  {
    languageOptions: { ecmaVersion: "latest", sourceType: "module" },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      "no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_" }],
      "no-var": "error",
      "prefer-const": "error",
      eqeqeq: ["error", "always", { null: "ignore" }],
      "no-implicit-globals": "error",
      "no-return-assign": "off",
      "no-throw-literal": "error",
      "object-shorthand": "error",
    },
  },
  {
    // They run in a page or a worker; nothing of node's is there.
    files: ["pkg/**/*.js", "www/**/*.js"],
    ignores: ["**/*.test.js", "**/*.test.mjs"],
    languageOptions: { globals: { ...globals.browser, ...globals.worker } },
  },
  {
    files: ["examples/**/*.js"],
    languageOptions: { globals: { ...globals.node, ...globals.browser, ...globals.webextensions } },
  },
  {
    // Not every browser has service workers of modules.
    files: ["www/service-worker.js"],
    languageOptions: { sourceType: "script", globals: { ...globals.serviceworker } },
    rules: { "no-implicit-globals": "off" }, // Its global scope is its own.
  },
  {
    // Node drives a browser, and passes it functions that run there.
    files: ["tests/**/*.{js,mjs}", "benches/**/*.{js,mjs}", "**/*.test.{js,mjs}", "*.mjs", "xtask/*.mjs", "scripts/*.mjs"],
    languageOptions: { globals: { ...globals.node, ...globals.browser } },
  },
];
