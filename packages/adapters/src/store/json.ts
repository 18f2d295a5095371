/** Reads JSON that a store has written with `JSON.stringify`, whatever keys it has: core's function under its old name. */

export { parseStored } from "@docyard/core";
