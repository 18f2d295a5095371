/**
 * The script of the page at /docs as the program carries it: Scalar's, which brings everything along, packed. Where it
 * is put is left to whoever makes the program: bundle.mjs beside it, exe/ inside it.
 */

import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { constants, gzip } from "node:zlib";

/** The same bytes each time, and the file that they come from. @returns {Promise<{ bytes: Uint8Array, file: string }>} */
export async function packedReference() {
  const file = new URL("browser/standalone.js", import.meta.resolve("@scalar/api-reference"));
  const bytes = await promisify(gzip)(await readFile(file), { level: constants.Z_BEST_COMPRESSION });
  return { bytes, file: fileURLToPath(file) };
}
