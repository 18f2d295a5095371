/**
 * The conformance suite of the `BlobStore` port: every sentence of its contract as a named case, for any driver.
 * The cases are in the files beside it; how a driver keeps its bytes is its own affair and its own tests'.
 */

import { describe, expect, test } from "vitest";
import type { BlobCase, BlobStoreTraits, OpenBlobs } from "./blob-case.ts";
import { COPY_CASES } from "./blob-copy-cases.ts";
import { PUT_CASES } from "./blob-put-cases.ts";
import { READ_CASES } from "./blob-read-cases.ts";
import { SERVICE_CASES } from "./blob-service-cases.ts";
import { URL_CASES } from "./blob-url-cases.ts";

export type { BlobStoreTraits, NotingHost, OpenBlobs } from "./blob-case.ts";
export { permissiveHost, redeemBy } from "./blob-case.ts";

/** Runs the suite; `open` is called once per case and must give an empty store. */
export function testBlobStore(name: string, open: () => Promise<OpenBlobs>, traits: BlobStoreTraits): void {
  describe(`${name} keeps the BlobStore contract`, () => {
    test.for(casesFor(traits))("$name", async ({ run }) => {
      const opened = await open();
      try {
        const left = await run(opened, traits);
        expect((await opened.leftovers()).sort()).toEqual([...left].sort());
      } finally {
        await opened.close();
      }
    });
  });
}

function casesFor(traits: BlobStoreTraits): BlobCase[] {
  return [...PUT_CASES, ...READ_CASES, ...COPY_CASES, ...URL_CASES, ...SERVICE_CASES].filter(
    ({ when }) => when === undefined || when(traits),
  );
}
