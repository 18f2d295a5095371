/**
 * The script of the page at /docs as the program carries it: Scalar's, which brings everything along, packed. Where it
 * is put is left to whoever makes the program: bundle.mjs beside it, exe/ inside it.
 */

import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { constants, gzip } from "node:zlib";

/** The same bytes each time. @returns {Promise<Uint8Array>} */
export async function packedReference() {
  const entry = import.meta.resolve("@scalar/api-reference");
  const script = await readFile(new URL("browser/standalone.js", entry));
  return promisify(gzip)(script, { level: constants.Z_BEST_COMPRESSION });
}
