/**
 * The law of name searches: whatever part is searched for, exactly the names that contain it are found. For names that
 * share most of their trigrams, so that which of them an index is asked about matters.
 */

import type { Store } from "@docyard/core";
import { foldName } from "@docyard/core";
import * as fc from "fast-check";
import { expect } from "vitest";
import { plainArtifact } from "../arbitraries.ts";

/** Names of one dock at most: so many that a search for what few have and one for what all have differ. */
const NAMES_MAX = 150;

/** Names that share most of their trigrams, in another order. */
const names = fc
  .array(fc.constantFrom("ab", "ba", "a", "b", "0", "00", "1", "01", "-", '"', "%", "_", "é", "😀"), {
    minLength: 6,
    maxLength: 24,
  })
  .map((parts) => parts.join("").slice(0, 60));

/** Parts of some of these names, and others that may be of none. */
export function partsOf(filenames: readonly string[]): fc.Arbitrary<string[]> {
  const cuts = fc.tuple(fc.nat(), fc.nat(), fc.nat(19)).map(([which, from, length]) => {
    const chars = Array.from(filenames[which % filenames.length]!);
    const start = from % chars.length;
    return chars.slice(start, start + 3 + length).join("");
  });
  return fc
    .tuple(fc.array(cuts, { minLength: 10, maxLength: 10 }), fc.array(names, { maxLength: 3 }))
    .map(([parts, others]) => [...parts, ...others, ...parts.map((part) => `${part}${part}`)]);
}

/** Some names, and what is searched for among them. */
export const searches: fc.Arbitrary<readonly [filenames: string[], parts: string[]]> = fc
  .array(names, { minLength: 1, maxLength: NAMES_MAX })
  .chain((filenames) => fc.tuple(fc.constant(filenames), partsOf(filenames)));

/** Each run is a dock of its own in one store: what other docks have is in the same index. */
export async function checkNames(store: Store, numRuns: number): Promise<void> {
  let run = 0;
  await fc.assert(
    fc.asyncProperty(searches, async ([filenames, parts]) => {
      const dockId = `dock_${++run}`;
      await store.load(
        filenames.map((filename, i) => ({
          kind: "artifact",
          artifact: plainArtifact(run * 1_000 + i, { dockId, filename }),
        })),
      );
      for (const search of parts) {
        const expected = filenames.filter((name) => foldName(name).includes(foldName(search))).length;
        const { total, rows } = await store.artifacts.find({
          dockId,
          face: "machine",
          statuses: ["upload_completed"],
          search,
          start: { offset: 0 },
          limit: 1_000,
        });
        expect([search, total, rows.length]).toEqual([search, expected, expected]);
      }
    }),
    { numRuns },
  );
}
