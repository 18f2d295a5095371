/**
 * The law of totals that are not counted one by one, and of pages that are not read again: in a dock of many documents,
 * whose rows leave, join or stay and change between the questions, here, elsewhere or in vain, combinations of fields and
 * names have the total that the store in memory counts, and the rows that it has.
 */

import { memoryStore } from "@docyard/adapters/store/memory";
import type { Artifact, FindQuery, Found, Store } from "@docyard/core";
import { isDocyardError } from "@docyard/core";
import * as fc from "fast-check";
import { expect } from "vitest";
import { plainArtifact } from "../arbitraries.ts";

/** Enough that each term below has more documents than are looked up one by one. */
const ROWS = 3_100;
/** The rows that leave and join: few, so that they come back. */
const MOVING = 6;
export const changed = { type: "artifact.created", at: 0, by: null } as const;

export const rows: readonly Artifact[] = Array.from({ length: ROWS }, (_, i) =>
  plainArtifact(i, {
    filename: `${["report", "Summary", "scan"][i % 3]} ${i % 2} of ${i}.pdf`,
    metadata: { half: i % 2, third: i % 3, fifth: (i * 7) % 5, all: true, list: [i % 2, i % 3] },
    mediaType: i % 4 === 0 ? "video" : null,
  }),
);

/** Two stores on one empty database, as two processes would have it. */
export interface Pair {
  readonly stores: readonly [Store, Store];
  close(): Promise<void>;
}

export type Question = Pick<FindQuery, "filter" | "search" | "mediaType" | "createdAfter" | "createdBefore">;

const fields = fc.record(
  { half: fc.nat(1), third: fc.nat(2), fifth: fc.nat(4), all: fc.boolean() },
  { requiredKeys: [] },
);
export const questions: fc.Arbitrary<Question> = fc.oneof(
  { weight: 4, arbitrary: fields.map((filter) => ({ filter })) },
  {
    weight: 2,
    arbitrary: fc.record(
      {
        filter: fc.oneof(fields, fc.constant({ list: [1, 2] })),
        search: fc.constantFrom("report", "SUMMARY 1", "of 2", "an", "of 7.pdf", "report 0 of 3.pdf"),
        mediaType: fc.constant("video" as const),
        createdAfter: fc.constantFrom(rows[2]!.createdAt, rows[900]!.createdAt),
        createdBefore: fc.constantFrom(rows[3]!.createdAt, rows[2_000]!.createdAt),
      },
      { requiredKeys: [] },
    ),
  },
);

export interface Move {
  readonly to: "upload_completed" | "upload_failed";
  readonly number: number;
  /** Which process does it. */
  readonly by: 0 | 1;
  /** Whether a quota undoes it, last of all. */
  readonly isInVain: boolean;
}

export const moves: fc.Arbitrary<Move> = fc.record({
  to: fc.constantFrom("upload_completed", "upload_failed"),
  number: fc.nat(MOVING - 1),
  by: fc.constantFrom(0, 0, 0, 0, 1),
  isInVain: fc.constantFrom(false, false, true),
});

type Step =
  | { readonly do: "ask"; readonly question: number; readonly of: 0 | 1 }
  /** All at once, each of another row. */
  | { readonly do: "move"; readonly moves: readonly Move[] };

const steps: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant("ask" as const),
      question: fc.nat(11),
      of: fc.constantFrom(0, 0, 0, 1),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant("move" as const),
      moves: fc.uniqueArray(moves, { selector: ({ number }) => number, minLength: 1, maxLength: 3 }),
    }),
  },
);

const histories = fc.tuple(
  // Few are asked again and again, with a total to remember; of many, some share a field with one asked before.
  fc.oneof(
    fc.array(questions, { minLength: 3, maxLength: 3 }),
    fc.array(
      fields.map((filter) => ({ filter })),
      { minLength: 12, maxLength: 12 },
    ),
  ),
  fc.array(steps, { minLength: 20, maxLength: 60, size: "max" }),
);

export const queryOf = (question: Question): FindQuery => ({
  dockId: "dock_a",
  face: "machine",
  statuses: ["upload_completed"],
  ...question,
  start: { offset: 0 },
  limit: 3,
});

/** What must be the same everywhere. */
export const answerOf = (question: Question, { total, rows: page }: Found): unknown => [
  question,
  total,
  page.map(({ id, version }) => `${id} ${version}`),
];

async function ask(store: Store, question: Question): Promise<unknown> {
  return answerOf(question, await store.artifacts.find(queryOf(question)));
}

export async function move(store: Store, { to, number, isInVain }: Move): Promise<unknown> {
  const { id } = rows[number]!;
  const { version } = (await store.artifacts.get({ id }))!;
  const quota = isInVain ? { artifacts: 0 } : undefined;
  try {
    return (await store.artifacts.update(id, version, { status: to }, changed, quota))?.status;
  } catch (error) {
    if (isDocyardError(error)) return error.code;
    throw error;
  }
}

/** Checks the law on one database. */
export async function checkCounts(open: () => Promise<Pair>, numRuns: number): Promise<void> {
  const [{ stores, close }, model] = [await open(), memoryStore()];
  try {
    for (const store of [stores[0], model]) {
      await store.load(rows.map((artifact) => ({ kind: "artifact", artifact })));
    }
    await fc.assert(
      fc.asyncProperty(histories, async ([asked, taken]) => {
        for (const step of taken) {
          if (step.do === "ask") {
            const question = asked[step.question % asked.length]!;
            const expected = await ask(model, question);
            expect(await ask(stores[step.of], question)).toEqual(expected);
          } else {
            const expected = await Promise.all(step.moves.map((one) => move(model, one)));
            const moved = await Promise.all(step.moves.map((one) => move(stores[one.by], one)));
            expect(moved).toEqual(expected);
          }
        }
      }),
      { numRuns },
    );
  } finally {
    await close();
    await model.close();
  }
}
