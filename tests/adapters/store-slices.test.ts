/**
 * The law of counts that are made in slices: whoever else asks or changes something meanwhile, here or in another process,
 * a list's total is the one of its page's moment. The slices are small here; how large they are decides nothing.
 */

import { memoryStore } from "@docyard/adapters/store/memory";
import type { FindQuery, Found } from "@docyard/core";
import type { Database } from "better-sqlite3";
import * as fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ArtifactSql } from "../../packages/adapters/src/store/sql-artifacts.ts";
import { artifactSql } from "../../packages/adapters/src/store/sql-artifacts.ts";
import { loadSql } from "../../packages/adapters/src/store/sql-load.ts";
import type { Step } from "../../packages/adapters/src/store/sql-recent.ts";
import type { Sql } from "../../packages/adapters/src/store/sql.ts";
import { sqliteDialect } from "../../packages/adapters/src/store/sqlite-dialect.ts";
import type { Execute } from "../../packages/adapters/src/store/sqlite-open.ts";
import { drive, openSqlite } from "../../packages/adapters/src/store/sqlite-open.ts";
import { plainArtifact } from "../arbitraries.ts";
import type { Move, Question } from "./store-counts.ts";
import { answerOf, changed, move, moves, queryOf, questions, rows } from "./store-counts.ts";

/** Every field that has a set is read in many slices, and so is every name that more than a page have. */
const SLICE_MAX = 150;
/** How far those that leave and join are apart. */
const APART = 4 * SLICE_MAX + 1;
const dialect = { ...sqliteDialect, sliceMax: SLICE_MAX };

let db: Database;
let execute: Execute;
beforeAll(async () => {
  ({ db, execute } = await openSqlite({ file: ":memory:" }));
  const records = rows.map((artifact) => ({ kind: "artifact", artifact }) as const);
  db.transaction(() => drive(loadSql(dialect)(records), execute))();
});
afterAll(() => void db.close());

interface Asking {
  readonly question: Question;
  readonly running: Sql<Found>;
}

/** A question, and how far from the newest answer its page begins. */
interface Deep {
  readonly question: Question;
  readonly offset: number;
}

const queryAt = ({ question, offset }: Deep): FindQuery => ({ ...queryOf(question), start: { offset } });

/** Goes on to the next pause; what was found, or null at a pause. */
function goOn({ running }: Asking): Found | null {
  let step = running.next([]);
  while (step.done !== true && step.value.pause !== true) step = running.next(execute(step.value));
  return step.done === true ? step.value : null;
}

/** The same for what nobody waits for; false when it has come to its end. */
function goOnAhead(running: Sql<void>): boolean {
  let step = running.next([]);
  while (step.done !== true && step.value.pause !== true) step = running.next(execute(step.value));
  return step.done !== true;
}

function moveNow(artifacts: ArtifactSql, { to, number }: Move): void {
  const steps: Step[] = [];
  const { id } = rows[number]!;
  const { version } = drive(artifacts.get({ id }), execute)!;
  drive(artifacts.update(id, version, { status: to }, changed, undefined, steps), execute);
  artifacts.note(steps);
}

/** Here the rows that leave and join are in slices of their own. */
const movesAnywhere = moves
  .filter(({ isInVain }) => !isInVain)
  .map((one): Move => ({ ...one, number: one.number * APART }));

const names = fc
  .constantFrom("report", "summary 1", "of ", "scan", ".pdf")
  .map((search): Question => ({ search }));

/** What has to be looked at row by row, and most rows are an answer to. */
const walks = fc.constantFrom<Question>(
  { search: "of" },
  { search: "f", createdAfter: rows[2]!.createdAt },
  { search: "of ", createdBefore: rows[3_000]!.createdAt },
  { search: "of ", createdAfter: rows[2]!.createdAt, mediaType: "video" },
  { search: "of", filter: { half: 1 } },
  { filter: { all: true, list: [1] } },
  { filter: { all: true, list: [1, 0] }, search: "of " },
  { filter: { all: true }, createdAfter: rows[2]!.createdAt, createdBefore: rows[3_000]!.createdAt },
);

const deep = fc.record({
  question: fc.oneof(questions, names, walks),
  offset: fc.constantFrom(0, 0, 1_050, 1_500, 2_010),
});

const histories = fc.tuple(
  fc.array(deep, { minLength: 2, maxLength: 5 }),
  fc.array(
    fc.record({
      /** Who goes on. */
      next: fc.nat(4),
      moves: fc.array(movesAnywhere, { maxLength: 2 }),
    }),
    { minLength: 30, maxLength: 120, size: "max" },
  ),
  // Whether another process has a part in it.
  fc.boolean(),
  // Whether sets are read beside it, before anyone asks.
  fc.boolean(),
);

test("law: what is counted in slices is what is counted at once, at the moment of the page", async () => {
  const model = memoryStore();
  await model.load(rows.map((artifact) => ({ kind: "artifact", artifact })));
  let pauses = 0;
  await fc.assert(
    fc.asyncProperty(histories, async ([asked, turns, areTwo, readsAhead]) => {
      const [mine, other] = [artifactSql(dialect), artifactSql(dialect)];
      const ahead = mine.readAhead();
      const all = asked.map((one) => ({ ...one, running: mine.find(queryAt(one)) }));
      for (let turn = 0; all.length > 0; turn++) {
        // Behind the end of the history nothing changes any more.
        const { next, moves: moved } = turns[turn] ?? { next: 0, moves: [] };
        for (const one of moved) {
          moveNow(areTwo && one.by === 1 ? other : mine, one);
          await move(model, one);
        }
        if (readsAhead) goOnAhead(ahead);
        const asking = all[next % all.length]!;
        const found = goOn(asking);
        if (found === null) {
          pauses++;
          continue;
        }
        all.splice(all.indexOf(asking), 1);
        const expected = await model.artifacts.find(queryAt(asking));
        expect(answerOf(asking.question, found)).toEqual(answerOf(asking.question, expected));
      }
    }),
    { numRuns: process.env["DOCYARD_TEST_FULL"] === "1" ? 1_000 : 60 },
  );
  expect(pauses).toBeGreaterThan(1_000);
  await model.close();
}, 600_000);

/** How often everybody else could have had a turn before a question was answered. */
function pausesOf(artifacts: ArtifactSql, question: Question, between: () => void = () => {}): number {
  const asking = { question, running: artifacts.find(queryOf(question)) };
  let pauses = 0;
  while (goOn(asking) === null) {
    pauses++;
    between();
  }
  return pauses;
}

test("a name that many have is counted in slices, and the same question asked meanwhile has its share in them", () => {
  const [alone, together] = [artifactSql(dialect), artifactSql(dialect)];
  const question = { search: "of " };
  const slices = pausesOf(alone, question);
  expect(slices).toBe(Math.ceil(rows.length / SLICE_MAX));
  expect(pausesOf(alone, question)).toBe(0);

  const others = { question, running: together.find(queryOf(question)) };
  let shared = 0;
  const own = pausesOf(together, question, () => {
    if (goOn(others) === null) shared++;
  });
  // Each looks first.
  expect(own + shared).toBeLessThanOrEqual(slices + 2);
});

test.each<[string, Question]>([
  ["a part too short for the name index", { search: "of" }],
  ["a part in a stretch of time", { search: "of ", createdAfter: rows[100]!.createdAt }],
  ["a part and a field", { search: "of ", filter: { half: 1 } }],
  ["a stretch of time", { createdAfter: rows[100]!.createdAt, createdBefore: rows[3_000]!.createdAt }],
  ["lists that are looked into", { filter: { all: true, list: [1, 0] } }],
])("%s: counted in slices", (_, question) => {
  const artifacts = artifactSql(dialect);
  const { total } = drive(artifactSql(sqliteDialect).find(queryOf(question)), execute);
  expect(pausesOf(artifacts, question)).toBeGreaterThan(5);
  expect(pausesOf(artifacts, question)).toBe(0);
  expect(drive(artifacts.find(queryOf(question)), execute).total).toBe(total);
});

test("a deep page of what was counted in slices begins where one of them has ended", () => {
  const ask = ({ find }: ArtifactSql): { found: Found; asked: string } => {
    let asked = "";
    const found = drive(find(queryAt({ question: { search: "of" }, offset: 1_500 })), (query) => {
      asked = query.sql;
      return execute(query);
    });
    return { found, asked };
  };
  const [slices, whole] = [ask(artifactSql(dialect)), ask(artifactSql(sqliteDialect))];
  expect(slices.found).toEqual(whole.found);
  expect(slices.asked).toMatch(/created_at < \?/);
  expect(whole.asked).not.toMatch(/created_at < \?/);
});

test("the documents of each field are read once, whatever the fields are combined with", () => {
  const artifacts = artifactSql(dialect);
  expect(pausesOf(artifacts, { filter: { half: 0, third: 1 } })).toBeGreaterThan(10);
  expect(pausesOf(artifacts, { filter: { half: 0, fifth: 1 } })).toBeGreaterThan(2);
  expect(pausesOf(artifacts, { filter: { third: 1, fifth: 1 } })).toBe(0);
  expect(pausesOf(artifacts, { filter: { half: 0, third: 1, fifth: 1 } })).toBe(0);
});

test("what has been read ahead is counted at once, and read once", () => {
  const artifacts = artifactSql(dialect);
  const ahead = artifacts.readAhead();
  // A part of it is read by whoever asks meanwhile.
  for (let i = 0; i < 10; i++) goOnAhead(ahead);
  expect(pausesOf(artifacts, { filter: { half: 0, third: 1 } })).toBeGreaterThan(0);
  while (goOnAhead(ahead));
  for (const filter of [
    { third: 2, fifth: 1 },
    { half: 1, all: true },
    { half: 0, third: 1, fifth: 4 },
  ]) {
    expect(pausesOf(artifacts, { filter })).toBe(0);
  }
  expect(pausesOf(artifacts, { filter: { half: 0 }, mediaType: "video" })).toBe(0);
  let slices = 0;
  for (const again = artifacts.readAhead(); goOnAhead(again);) slices++;
  // Of each set that there is one look.
  expect(slices).toBeLessThan(50);
});

test("what is read ahead ends while others change without end, and where no dock is large", () => {
  const [mine, other] = [artifactSql(dialect), artifactSql(dialect)];
  let isThere = true;
  let slices = 0;
  for (const ahead = mine.readAhead(); goOnAhead(ahead); slices++) {
    isThere = !isThere;
    moveNow(other, { to: isThere ? "upload_completed" : "upload_failed", number: 0, by: 1, isInVain: false });
  }
  expect(slices).toBeLessThan(1_000);
  expect(goOnAhead(artifactSql({ ...sqliteDialect, sliceMax: rows.length }).readAhead())).toBe(false);
});

test("what others change without end is counted all the same", () => {
  const [mine, other] = [artifactSql(dialect), artifactSql(dialect)];
  let isThere = true;
  const change = (): void => {
    isThere = !isThere;
    moveNow(other, { to: isThere ? "upload_completed" : "upload_failed", number: 0, by: 1, isInVain: false });
  };
  // Begun so often, in two slices each time at most, and then done at once.
  expect(pausesOf(mine, { search: "of " }, change)).toBeLessThan(40);
  expect(pausesOf(mine, { filter: { half: 0, third: 1 } }, change)).toBeLessThan(40);
});

test("documents of one moment, more than a slice has, are all counted", async () => {
  const { db: own, execute: run } = await openSqlite({ file: ":memory:" });
  const artifacts = artifactSql(dialect);
  const twins = Array.from({ length: 5 * SLICE_MAX }, (_, i) =>
    plainArtifact(i, { createdAt: 5_000, metadata: { all: 1, most: i % 5 > 0 } }),
  );
  drive(loadSql(dialect)(twins.map((artifact) => ({ kind: "artifact", artifact }))), run);
  const { total } = drive(artifacts.find(queryOf({ filter: { all: 1, most: true } })), run);
  expect(total).toBe(4 * SLICE_MAX);
  own.close();
});
