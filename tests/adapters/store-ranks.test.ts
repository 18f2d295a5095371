/**
 * Pages out of the middle of what many names are found for: the same as if all had been sorted, in whatever order their
 * rows were created, join and leave; and found without sorting where numbers and times agree.
 */

import type { Artifact, FindQuery, Found, Store } from "@docyard/core";
import { sqliteStore } from "@docyard/adapters/store/sqlite";
import * as fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { findSql } from "../../packages/adapters/src/store/sql-find.ts";
import { loadSql } from "../../packages/adapters/src/store/sql-load.ts";
import { STRETCH_MS } from "../../packages/adapters/src/store/sql-marks.ts";
import { createRecent } from "../../packages/adapters/src/store/sql-recent.ts";
import { termSets } from "../../packages/adapters/src/store/sql-sets.ts";
import { sqliteDialect } from "../../packages/adapters/src/store/sqlite-dialect.ts";
import type { OpenSqlite } from "../../packages/adapters/src/store/sqlite-open.ts";
import { drive, openSqlite } from "../../packages/adapters/src/store/sqlite-open.ts";
import { plainArtifact } from "../arbitraries.ts";
import { HOLIDAYS, holidays, idsOf } from "./store-holidays.ts";

const RUNS = process.env["DOCYARD_TEST_FULL"] === "1" ? 200 : 12;
const NOW = 1_700 * 1_000 * STRETCH_MS;
/** Enough for pages in the middle that are too far to walk to. */
const ROWS = 3_000;
const LOADED = 1_000;
const LEAVING = 3;

describe("in a store", () => {
  let store: Store;
  beforeEach(async () => {
    store = await sqliteStore({ file: ":memory:" });
  });
  afterEach(() => store.close());

  /** Again and again, for all rows: how far a clock is off, and whether the name has the part. */
  const pattern = fc.array(
    fc.record({
      jitter: fc.oneof(
        fc.constant(0),
        fc.integer({ min: -3, max: 3 }),
        fc.integer({ min: -2 * STRETCH_MS, max: 2 * STRETCH_MS }),
      ),
      isHoliday: fc.nat(3).map((some) => some > 0),
    }),
    { minLength: 1, maxLength: 30 },
  );
  /** Milliseconds from row to row, back in time as well; for how many a clock stands still; and whether ids fall. */
  const clocks = fc.record({
    step: fc.constantFrom(0, 1, 60_000, STRETCH_MS / 8, -60_000),
    still: fc.constantFrom(1, 1, 7, 100),
    isFalling: fc.boolean(),
  });
  /** Where others' names lie in between. */
  const gap = fc.record({ from: fc.nat(ROWS), length: fc.nat(ROWS / 2) });
  /** By which share of all comes before. */
  const asked = fc.array(
    fc.record({
      share: fc.integer({ min: 3, max: 7 }),
      past: fc.nat(99),
      limit: fc.integer({ min: 1, max: 200 }),
    }),
    { minLength: 6, maxLength: 12 },
  );

  test("law: every page is the one that sorting would give", async () => {
    let run = 0;
    await fc.assert(
      fc.asyncProperty(
        pattern,
        clocks,
        gap,
        asked,
        fc.nat(ROWS),
        async (all, clock, between, pages, some) => {
          const timeOf = (i: number): number => NOW + Math.floor(i / clock.still) * clock.step;
          const dockId = `dock_${++run}`;
          const artifacts = Array.from({ length: ROWS }, (_, i) => {
            const { jitter, isHoliday } = all[i % all.length]!;
            const isBetween = i >= between.from && i < between.from + between.length;
            return plainArtifact(run * ROWS * 2 + (clock.isFalling ? ROWS - i : i), {
              dockId,
              createdAt: timeOf(i) + jitter,
              filename: `${isHoliday && !isBetween ? "holiday" : "work"}-${i}.jpg`,
            });
          });
          for (let from = 0; from < ROWS; from += LOADED) {
            const records = artifacts.slice(from, from + LOADED);
            await store.load(records.map((artifact) => ({ kind: "artifact", artifact })));
          }
          const check = async (): Promise<void> => {
            const expected = idsOf(holidays(artifacts));
            for (const { share, past, limit } of pages) {
              const offset = Math.floor((expected.length * share) / 10) + past;
              const found = await store.artifacts.find({ ...HOLIDAYS, dockId, start: { offset }, limit });
              expect(found.total).toBe(expected.length);
              expect(idsOf(found.rows)).toEqual(expected.slice(offset, offset + limit));
            }
          };
          await check();
          // What is known by now is counted on with rows that leave and join, anywhere.
          const event = { type: "artifact.deleted", at: NOW, by: null, data: {} } as const;
          for (const left of holidays(artifacts).slice(-LEAVING)) {
            await store.artifacts.update(left.id, left.version, { status: "deleted" }, event);
            artifacts.splice(artifacts.indexOf(left), 1);
          }
          const joined = plainArtifact(run * ROWS * 2 + ROWS + 1, {
            dockId,
            createdAt: timeOf(some),
            filename: "holiday-late.jpg",
          });
          await store.artifacts.insert(joined, { ...event, type: "artifact.completed" });
          artifacts.push(joined);
          await check();
        },
      ),
      { numRuns: RUNS },
    );
  });
});

describe("in a file of many names", () => {
  let opened: OpenSqlite;
  beforeEach(async () => {
    opened = await openSqlite({ file: ":memory:" });
  });
  afterEach(() => opened.db.close());

  /** Asks as a store does, and says what it asked the database. */
  function finder(): (query: Pick<FindQuery, "start" | "limit">) => { found: Found; queries: string[] } {
    const recent = createRecent();
    const find = findSql(sqliteDialect, recent, termSets(sqliteDialect, recent));
    return (query) => {
      const queries: string[] = [];
      const found = drive(find({ ...HOLIDAYS, dockId: "dock_a", ...query }), (asking) => {
        queries.push(asking.sql);
        return opened.execute(asking);
      });
      return { found, queries };
    };
  }

  /** Every third name of `count`, in the order of their numbers and times. */
  function fill(count: number): Artifact[] {
    const artifacts = Array.from({ length: count }, (_, i) =>
      plainArtifact(i, {
        createdAt: NOW + i * 60_000,
        filename: `${i % 3 === 0 ? "holiday" : "work"}-${i}.jpg`,
      }),
    );
    const load = loadSql(sqliteDialect);
    for (let from = 0; from < count; from += LOADED) {
      const records = artifacts.slice(from, from + LOADED);
      drive(load(records.map((artifact) => ({ kind: "artifact", artifact }))), opened.execute);
    }
    return artifacts;
  }

  const isSorting = (text: string): boolean => /a\.n in \(select rowid/.test(text);
  const isCounting = (text: string): boolean => text.includes("count(*) as total");

  test("a page in the middle is not sorted out of all, and the next one counts hardly anything", () => {
    const expected = idsOf(holidays(fill(9_000)));
    const find = finder();
    find({ start: { offset: 0 }, limit: 20 });
    const counts: number[] = [];
    for (let offset = 1_400; offset < 1_700; offset += 20) {
      const { found, queries } = find({ start: { offset }, limit: 20 });
      expect(idsOf(found.rows)).toEqual(expected.slice(offset, offset + 20));
      expect(queries.filter(isSorting)).toEqual([]);
      counts.push(queries.filter(isCounting).length);
    }
    // What one page has counted the next ones go on from.
    expect(counts[0]).toBeLessThanOrEqual(6);
    expect(Math.max(...counts.slice(1))).toBeLessThanOrEqual(2);
  });

  test("an index that has lost names answers all the same", () => {
    fill(6_000);
    const find = finder();
    const { total } = find({ start: { offset: 0 }, limit: 20 }).found;
    const rows = opened.db.prepare("select n, folded from artifact where folded like 'holiday%'").all();
    const lose = opened.db.prepare(
      "insert into artifact_name (artifact_name, rowid, folded) values ('delete', ?, ?)",
    );
    for (const { n, folded } of (rows as { n: number; folded: string }[]).slice(500, 1_500)) {
      lose.run((1n << 40n) + BigInt(n), folded);
    }
    const { found } = find({ start: { offset: 1_000 }, limit: 20 });
    expect(found.total).toBe(total);
    expect(found.rows.every(({ filename }) => filename.includes("holiday"))).toBe(true);
  });
});
