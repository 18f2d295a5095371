/**
 * Memory, SQLite and PostgreSQL answer list queries alike: 20,000 random questions about random artifacts, each asked of
 * all three. That they answer as the contract says is tested beside the adapters, on the two that need no server.
 */

import { memoryStore } from "@docyard/adapters/store/memory";
import { postgresStore } from "@docyard/adapters/store/postgres";
import { sqliteStore } from "@docyard/adapters/store/sqlite";
import type { Artifact, ArtifactStatus, FindQuery, Found, Store } from "@docyard/core";
import { ARTIFACT_STATUSES } from "@docyard/core";
import * as fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { artifacts, broadQuestions, findQueries, largeDock } from "../arbitraries.ts";
import type { FreshDatabase } from "./index.ts";
import { freshDatabase } from "./index.ts";

const created = { type: "artifact.created", at: 0, by: null } as const;

/** Writes at once: a server with few connections turns those away that would wait too long for one. */
const AT_ONCE = 32;

let database: FreshDatabase;
let memory: Store;
let sqlite: Store;
let postgres: Store;
let stores: readonly Store[];

beforeAll(async () => {
  database = await freshDatabase();
  memory = memoryStore();
  sqlite = await sqliteStore({ file: ":memory:" });
  postgres = await postgresStore({ url: database.url, connectionsMax: 4 });
  stores = [memory, sqlite, postgres];
});
afterAll(async () => {
  for (const store of stores) await store.close();
  await database.remove();
});

/** Each artifact comes into being with one status and leaves it for its own, so that indexes have had to follow. */
async function fill(rows: readonly Artifact[], detours: readonly ArtifactStatus[]): Promise<void> {
  const write = async (store: Store, row: Artifact, i: number): Promise<void> => {
    const via = detours[i % Math.max(1, detours.length)] ?? row.status;
    await store.artifacts.insert({ ...row, status: via }, created);
    if (via !== row.status) await store.artifacts.update(row.id, 1, { status: row.status }, created);
  };
  for (const store of stores) {
    for (let from = 0; from < rows.length; from += AT_ONCE) {
      const some = rows.slice(from, from + AT_ONCE);
      await Promise.all(some.map((row, i) => write(store, row, from + i)));
    }
  }
}

/** Whole rows, so that what is stored is compared, too. */
async function expectAgreement(query: FindQuery): Promise<void> {
  const [expected, ...others] = await Promise.all(stores.map((store) => store.artifacts.find(query)));
  for (const found of others) expect({ query, ...found }).toEqual({ query, ...(expected as Found) });
}

/** Docks of one world: their names, ids and contents are no other world's, so that all can be in one database. */
function inWorld(world: number, rows: readonly Artifact[]): Artifact[] {
  const name = (text: string | null): string | null => (text === null ? null : `${text}_w${world}`);
  return rows.map((row) => ({
    ...row,
    id: name(row.id)!,
    dockId: name(row.dockId)!,
    uploadId: name(row.uploadId),
  }));
}

/** With DOCYARD_TEST_FULL=1: 20,000 random questions in all; by default a fifth of them. */
const IS_FULL = process.env["DOCYARD_TEST_FULL"] === "1";
const WORLDS = IS_FULL ? 120 : 24;
const BROAD = IS_FULL ? 2_000 : 400;

test(`small docks: ${WORLDS * 150} random questions`, async () => {
  let world = 0;
  await fc.assert(
    fc.asyncProperty(
      artifacts(24).chain((rows) =>
        fc.tuple(
          fc.constant(rows),
          fc.array(fc.constantFrom(...ARTIFACT_STATUSES), { maxLength: 7 }),
          fc.array(findQueries(rows), { minLength: 150, maxLength: 150 }),
        ),
      ),
      async ([rows, detours, queries]) => {
        world++;
        await fill(inWorld(world, rows), detours);
        for (const query of queries) {
          const { after } = query.start;
          const start =
            after === undefined ? query.start : { after: { ...after, id: `${after.id}_w${world}` } };
          await expectAgreement({ ...query, dockId: `${query.dockId}_w${world}`, start });
        }
      },
    ),
    { numRuns: WORLDS },
  );
});

test(`a dock large enough for every way of answering: ${BROAD} random questions`, async () => {
  const dockId = "dock_large";
  const many = largeDock({ dockId });
  await fill(many, []);
  await fc.assert(
    fc.asyncProperty(
      findQueries(many),
      broadQuestions(),
      fc.nat(many.length + 10),
      fc.constantFrom(1, 5, 20, 20, 1_000),
      async (query, more, offset, limit) => {
        const start = query.start.offset === undefined ? query.start : { offset };
        await expectAgreement({ ...query, ...more, dockId, face: "machine", start, limit });
      },
    ),
    { numRuns: BROAD },
  );
});
