/** How Node runs the packages' sources, which nothing has to build, in whatever process tests start. */

/**
 * Node strips types with WebAssembly, in each thread anew, and V8 13.6 frees the wrapper of an import that one thread has
 * compiled while another still counts on it (`Runtime_TierUpWasmToJSWrapper`; nodejs/node#64500 is of its kind). So none
 * is compiled: calls that never come to this many go by the generic one. What is built has no WebAssembly in its threads.
 */
export const NO_WASM_WRAPPERS = "--wasm-wrapper-tiering-budget=1000000000";

/** Before the file's name. */
export const NODE_ARGS: readonly string[] = [
  "--conditions=docyard-src",
  "--disable-warning=ExperimentalWarning",
  NO_WASM_WRAPPERS,
];
