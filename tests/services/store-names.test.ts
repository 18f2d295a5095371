/**
 * Names on PostgreSQL are looked for by their rarest trigrams, and found exactly; which ones are rare, and whether the
 * dock is asked for at once, changes nothing.
 */

import { postgresStore } from "@docyard/adapters/store/postgres";
import type { Store } from "@docyard/core";
import { foldName } from "@docyard/core";
import * as fc from "fast-check";
import { Client } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { postgresDialect } from "../../packages/adapters/src/store/postgres-dialect.ts";
import { checkNames, partsOf } from "../adapters/store-names.ts";
import { plainArtifact } from "../arbitraries.ts";
import type { FreshDatabase } from "./index.ts";
import { freshDatabase } from "./index.ts";

const full = process.env["DOCYARD_TEST_FULL"] === "1";

let database: FreshDatabase;
let store: Store;
let client: Client;

beforeAll(async () => {
  database = await freshDatabase();
  store = await postgresStore({ url: database.url });
  client = new Client({ connectionString: database.url });
  await client.connect();
});
afterAll(async () => {
  await client.end();
  await store.close();
  await database.remove();
});

/** The names of those that the index finds; null where it finds too many. */
async function candidates(dockId: string, part: string, documents: number, limit: number) {
  const { values, candidates: find } = postgresDialect.names;
  const running = find(values({ listing: 1, dockId, face: "machine", part, documents }), limit);
  let step = running.next();
  while (step.done !== true) {
    const { sql, parameters } = step.value;
    step = running.next((await client.query<object>(sql, [...parameters])).rows);
  }
  if (step.value === null) return null;
  const found = await client.query<{ dock_id: string; filename: string }>(
    "select dock_id, filename from artifact where n = any($1)",
    [step.value],
  );
  return found.rows;
}

test("law: whatever is searched for, exactly the names that contain it are found", async () => {
  await checkNames(store, full ? 300 : 15);
}, 300_000);

test("law: of a listing however long, all that have a part are among those found, and none of other docks", async () => {
  const filenames = Array.from(
    { length: 400 },
    (_, i) => `scan-${String(i * 37).padStart(6, "0")} of ${i % 7}.PDF`,
  );
  for (const dockId of ["dock_x", "dock_y"]) {
    await store.load(
      filenames.map((filename, i) => ({
        kind: "artifact",
        artifact: plainArtifact(900_000 + i + (dockId === "dock_x" ? 0 : 1_000), { dockId, filename }),
      })),
    );
  }
  // By these it is taken for a small part of the table, or for most of it.
  const [few, many] = [1, 1_000_000];
  await client.query("analyze artifact");
  await fc.assert(
    fc.asyncProperty(partsOf(filenames), fc.constantFrom(few, many), async (parts, documents) => {
      for (const part of parts.map(foldName).filter((one) => postgresDialect.names.serves(one))) {
        const expected = filenames.filter((name) => foldName(name).includes(part)).sort();
        const found = await candidates("dock_x", part, documents, 50);
        if (found === null) continue;
        expect(found.every(({ dock_id: dockId }) => dockId === "dock_x")).toBe(true);
        const matching = found
          .map(({ filename }) => filename)
          .filter((name) => foldName(name).includes(part));
        expect([part, matching.sort()]).toEqual([part, expected]);
      }
    }),
    { numRuns: full ? 300 : 15 },
  );
  // What one row of each dock has, and what all have.
  for (const documents of [few, many]) {
    expect(await candidates("dock_x", "014763", documents, 50)).toMatchObject([{ filename: filenames[399] }]);
    expect(await candidates("dock_x", "scan", documents, 50)).toBeNull();
  }
  // Two rows have it, one of each dock: told from each other only where the dock was asked for.
  expect(await candidates("dock_x", "014763", few, 2)).toMatchObject([{ filename: filenames[399] }]);
  expect(await candidates("dock_x", "014763", many, 2)).toBeNull();
}, 300_000);
