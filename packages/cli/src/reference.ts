/**
 * Where the script of the page at /docs is: beside the built program, or inside the executable. How it got there is
 * reference.mjs's and exe/'s; where there is none, the page does without.
 */

import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { getRawAsset, isSea } from "node:sea";

/** Its name, as a file and as an asset. */
export const REFERENCE_ASSET = "reference.js.gz";

/** From the bundle, from a module of the build, and from the sources of something that was built before. */
const PLACES = ["./", "./bundle/", "../dist/bundle/"];

/** What `createApp` takes as `docsAsset`; undefined where the program came without it. Reads nothing yet. */
export function referenceAsset(): (() => Promise<Uint8Array>) | undefined {
  if (isSea()) return insideExecutable();
  const file = PLACES.map((place) => new URL(place + REFERENCE_ASSET, import.meta.url)).find((place) =>
    existsSync(place),
  );
  return file === undefined ? undefined : () => readFile(file);
}

function insideExecutable(): (() => Promise<Uint8Array>) | undefined {
  try {
    const bytes = new Uint8Array(getRawAsset(REFERENCE_ASSET));
    return async () => bytes;
  } catch {
    return undefined;
  }
}
