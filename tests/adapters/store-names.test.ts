/** Long parts of names are looked for by their rarest trigrams, and found exactly. */

import { sqliteStore } from "@docyard/adapters/store/sqlite";
import { foldName } from "@docyard/core";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { plainArtifact } from "../arbitraries.ts";

const created = { type: "artifact.created", at: 0, by: null } as const;

/** Names that share most of their trigrams, in another order. */
const names = fc
  .array(fc.constantFrom("ab", "ba", "a", "b", "0", "00", "1", "01", "-", '"', "é", "😀"), {
    minLength: 6,
    maxLength: 24,
  })
  .map((parts) => parts.join("").slice(0, 60));

test("law: whatever is searched for, exactly the names that contain it are found", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(names, { minLength: 1, maxLength: 150 }),
      fc.array(fc.tuple(fc.nat(), fc.nat(), fc.nat()), { minLength: 10, maxLength: 10 }),
      fc.array(names, { maxLength: 3 }),
      async (filenames, cuts, others) => {
        const store = await sqliteStore({ file: ":memory:" });
        try {
          await Promise.all(
            filenames.map((filename, i) => store.artifacts.insert(plainArtifact(i, { filename }), created)),
          );
          const parts = cuts.map(([which, from, length]) => {
            const chars = Array.from(filenames[which % filenames.length]!);
            const start = from % chars.length;
            return chars.slice(start, start + 3 + (length % 20)).join("");
          });
          for (const search of [...parts, ...others, ...parts.map((part) => `${part}${part}`)]) {
            const expected = filenames.filter((name) => foldName(name).includes(foldName(search))).length;
            const { total, rows } = await store.artifacts.find({
              dockId: "dock_a",
              face: "machine",
              statuses: ["upload_completed"],
              search,
              start: { offset: 0 },
              limit: 1_000,
            });
            expect([search, total, rows.length]).toEqual([search, expected, expected]);
          }
        } finally {
          await store.close();
        }
      },
    ),
    { numRuns: process.env["DOCYARD_TEST_FULL"] === "1" ? 300 : 15 },
  );
}, 300_000);
