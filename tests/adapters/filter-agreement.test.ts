/**
 * Every store answers list queries alike: SQLite, memory and a naive reading of the contract, on random artifacts and
 * random questions. What each parameter means by example is in the conformance suites.
 */
import type { Artifact, ArtifactStatus, FindQuery, Found, Store, Term } from "@docyard/core";
import { ARTIFACT_STATUSES, compareNewestFirst, foldName, match } from "@docyard/core";
import { memoryStore } from "@docyard/adapters/store/memory";
import { storedTerms, termsDecide } from "../../packages/adapters/src/store/sql-filter.ts";
import { sqliteStore } from "@docyard/adapters/store/sqlite";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { artifacts, broadQuestions, filters, findQueries, largeDock, metadata } from "../arbitraries.ts";

/** The contract, word by word. */
function naive(rows: readonly Artifact[], query: FindQuery): Answer {
  const found = rows
    .filter((row) => row.dockId === query.dockId && row.face === query.face)
    .filter((row) => query.statuses.includes(row.status))
    .filter((row) => query.mediaType === undefined || row.mediaType === query.mediaType)
    .filter((row) => query.filter === undefined || match(row.metadata, query.filter))
    .filter((row) => !query.search || codePoints(row.filename).includes(codePoints(query.search)))
    .filter((row) => query.createdAfter === undefined || row.createdAt >= query.createdAfter)
    .filter((row) => query.createdBefore === undefined || row.createdAt < query.createdBefore)
    .sort(compareNewestFirst);
  const { start, limit } = query;
  const rest =
    start.after === undefined
      ? found.slice(start.offset)
      : found.filter((row) => compareNewestFirst(row, start.after) > 0);
  return {
    ids: rest.slice(0, limit).map((row) => row.id),
    total: found.length,
    more: rest.length > limit,
  };
}

/** A folded text so that only whole code points compare equal. */
function codePoints(text: string): string {
  let found = folded.get(text);
  if (found === undefined) {
    found = Array.from(foldName(text), (char) => `<${char}>`).join("");
    folded.set(text, found);
  }
  return found;
}
const folded = new Map<string, string>();

interface Answer {
  readonly ids: readonly string[];
  readonly total: number;
  readonly more: boolean;
}

const answer = ({ rows, total, more }: Found): Answer => ({ ids: rows.map((row) => row.id), total, more });

const created = { type: "artifact.created", at: 0, by: null } as const;

/** Stores each artifact and lets its status wander, so that indexes have had to follow. */
async function fill(
  store: Store,
  rows: readonly Artifact[],
  detours: readonly ArtifactStatus[],
): Promise<void> {
  await Promise.all(
    rows.map(async (row, i) => {
      const via = detours[i % Math.max(1, detours.length)] ?? row.status;
      await store.artifacts.insert({ ...row, status: via }, created);
      if (via !== row.status) await store.artifacts.update(row.id, 1, { status: row.status }, created);
    }),
  );
}

async function expectAgreement(
  stores: readonly Store[],
  rows: readonly Artifact[],
  query: FindQuery,
): Promise<void> {
  const expected = naive(rows, query);
  for (const store of stores) {
    expect({ query, ...answer(await store.artifacts.find(query)) }).toEqual({ query, ...expected });
  }
}

test("a filter's terms are in every document that matches it, and decide it where they are said to", () => {
  const pairs = metadata().chain((document) => fc.tuple(fc.constant(document), filters([document])));
  const keyOf = ({ path, value }: Term): string => `${path}\n${value}`;
  fc.assert(
    fc.property(pairs, ([document, filter]) => {
      const has = new Set(storedTerms(document, null).map(keyOf));
      const hasAll = storedTerms(filter, null).every((term) => has.has(keyOf(term)));
      if (match(document, filter)) expect(hasAll).toBe(true);
      if (hasAll && termsDecide(filter)) expect(match(document, filter)).toBe(true);
    }),
    { numRuns: 5_000 },
  );
});

test("small docks: 2,400 random questions", async () => {
  await fc.assert(
    fc.asyncProperty(
      artifacts(24).chain((rows) =>
        fc.tuple(
          fc.constant(rows),
          fc.array(fc.constantFrom(...ARTIFACT_STATUSES), { maxLength: 7 }),
          fc.array(findQueries(rows), { minLength: 40, maxLength: 40 }),
        ),
      ),
      async ([rows, detours, queries]) => {
        const stores = [memoryStore(), await sqliteStore({ file: ":memory:" })];
        try {
          for (const store of stores) await fill(store, rows, detours);
          for (const query of queries) await expectAgreement(stores, rows, query);
        } finally {
          for (const store of stores) await store.close();
        }
      },
    ),
    { numRuns: 60 },
  );
});

test("a dock large enough for every way of answering: 400 random questions", async () => {
  const many = largeDock();
  const stores = [memoryStore(), await sqliteStore({ file: ":memory:" })];
  try {
    for (const store of stores) await fill(store, many, []);
    await fc.assert(
      fc.asyncProperty(
        findQueries(many),
        broadQuestions(),
        fc.nat(many.length + 10),
        async (query, more, offset) => {
          const start = query.start.offset === undefined ? query.start : { offset };
          const place = { dockId: "dock_a", face: "machine", start } as const;
          await expectAgreement(stores, many, { ...query, ...more, ...place });
        },
      ),
      { numRuns: 400 },
    );
  } finally {
    for (const store of stores) await store.close();
  }
});
