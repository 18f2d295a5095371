/**
 * What a listing's marks tell of times and numbers, whatever order its rows were created in; and the pages of names that
 * many rows have, which begin where the marks say that the first of them was created.
 */

import type { Artifact, ArtifactSummary, FindQuery, Found, PageStart } from "@docyard/core";
import * as fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { ArtifactRow } from "../../packages/adapters/src/store/schema.ts";
import { findSql } from "../../packages/adapters/src/store/sql-find.ts";
import { listingsSql } from "../../packages/adapters/src/store/sql-listing.ts";
import { loadSql } from "../../packages/adapters/src/store/sql-load.ts";
import { marksSql, STRETCH_MS } from "../../packages/adapters/src/store/sql-marks.ts";
import { createRecent } from "../../packages/adapters/src/store/sql-recent.ts";
import { termSets } from "../../packages/adapters/src/store/sql-sets.ts";
import { sqliteDialect } from "../../packages/adapters/src/store/sqlite-dialect.ts";
import type { OpenSqlite } from "../../packages/adapters/src/store/sqlite-open.ts";
import { drive, openSqlite } from "../../packages/adapters/src/store/sqlite-open.ts";
import { plainArtifact } from "../arbitraries.ts";
import { HOLIDAYS, holidays, idsOf } from "./store-holidays.ts";

const RUNS = process.env["DOCYARD_TEST_FULL"] === "1" ? 2_000 : 100;
const NOW = 1_700 * 1_000 * STRETCH_MS;

let opened: OpenSqlite;
beforeEach(async () => {
  opened = await openSqlite({ file: ":memory:" });
});
afterEach(() => opened.db.close());

function load(artifacts: readonly Artifact[]): void {
  drive(
    loadSql(sqliteDialect)(artifacts.map((artifact) => ({ kind: "artifact", artifact }))),
    opened.execute,
  );
}

/** Clocks that stand still, run, jump, and go back; a few stretches apart, or a moment. */
const jitters = fc.oneof(
  fc.nat(5),
  fc.integer({ min: -3, max: 3 }).map((stretches) => stretches * STRETCH_MS),
  fc.integer({ min: -2 * STRETCH_MS, max: 2 * STRETCH_MS }),
);

/** In the order of their numbers; some have left. */
const rows = fc
  .tuple(
    fc.constantFrom(0, STRETCH_MS / 8, STRETCH_MS),
    fc.array(
      fc.record({
        jitter: jitters,
        face: fc.nat(7).map((some) => (some > 0 ? "machine" : "studio")),
        hasLeft: fc.nat(3).map((some) => some === 3),
      }),
      { minLength: 1, maxLength: 60 },
    ),
  )
  .map(([step, all]) => all.map((row, i) => ({ ...row, createdAt: NOW + i * step + row.jitter })));

/** How many of them come at once, again and again. */
const chunks = fc.integer({ min: 1, max: 40 });

test("law: no row of a listing with such a number was created beyond the time that is told", () => {
  let run = 0;
  const { lastTime, firstTime } = marksSql(sqliteDialect);
  const numberOf = opened.db
    .prepare("select n from listing_count where dock_id = ? and face = 'machine'")
    .pluck();
  const listed = opened.db.prepare(
    `select n, created_at from artifact
      where dock_id = ? and face = 'machine' and status = 'upload_completed' order by n`,
  );
  fc.assert(
    fc.property(rows, chunks, (facts, chunk) => {
      const dockId = `dock_${++run}`;
      const made = facts.map(({ createdAt, face }, i) =>
        plainArtifact(run * 1_000 + i, { dockId, face, createdAt }),
      );
      for (let from = 0; from < made.length; from += chunk) load(made.slice(from, from + chunk));
      const listings = listingsSql(sqliteDialect);
      for (const [i, { id }] of made.entries()) {
        if (!facts[i]!.hasLeft) continue;
        const row = opened.db.prepare("select * from artifact where id = ?").get(id) as ArtifactRow;
        drive(listings.leave(row, {}), opened.execute);
        opened.db.prepare("update artifact set status = 'deleted' where id = ?").run(id);
      }
      const all = listed.all(dockId) as { n: number; created_at: number }[];
      if (all.length === 0) return;
      const listing = { n: numberOf.get(dockId) as number, dockId, face: "machine" as const };
      for (const { n } of all) {
        const until = all.filter((row) => row.n <= n).map((row) => row.created_at);
        const since = all.filter((row) => row.n >= n).map((row) => row.created_at);
        // And no later than need be, but for a stretch whose rows with such numbers have left.
        const last = drive(lastTime(listing, n), opened.execute);
        expect(last).toBeGreaterThanOrEqual(Math.max(...until));
        const first = drive(firstTime(listing, n), opened.execute);
        expect(first).toBeLessThanOrEqual(Math.min(...since));
        if (facts.some(({ hasLeft }) => hasLeft)) continue;
        expect([last, first]).toEqual([Math.max(...until), Math.min(...since)]);
      }
    }),
    { numRuns: RUNS },
  );
});

/** Asks as a store does, and says what it asked the database. */
function finder(): (query: FindQuery) => { found: Found; queries: string[] } {
  const recent = createRecent();
  const find = findSql(sqliteDialect, recent, termSets(sqliteDialect, recent));
  return (query) => {
    const queries: string[] = [];
    const found = drive(find(query), (asked) => {
      queries.push(asked.sql);
      return opened.execute(asked);
    });
    return { found, queries };
  };
}

const THIRTY = { ...HOLIDAYS, dockId: "dock_a", limit: 30 } as const;

test.each([
  ["as their numbers are", (i: number) => NOW + i * 60_000],
  ["the other way round", (i: number) => NOW - i * 60_000],
  ["all at once", () => NOW],
  ["in two turns", (i: number) => NOW + (i % 2) * 1_000 * STRETCH_MS + i * 60_000],
])("names that many have are listed from both ends, where times are %s", (_, createdAt) => {
  // Half of the names among those of one long while.
  const artifacts = Array.from({ length: 6_000 }, (_none, i) =>
    plainArtifact(i, {
      createdAt: createdAt(i),
      filename: `${i > 1_000 && i < 4_000 && i % 4 < 2 ? "holiday" : "work"}-${i}.jpg`,
    }),
  );
  for (let from = 0; from < artifacts.length; from += 500) load(artifacts.slice(from, from + 500));
  const expected = idsOf(holidays(artifacts));
  const find = finder();
  const walked: string[] = [];
  for (let start: PageStart = { offset: 0 }; ;) {
    const { rows: page, total, more }: Found = find({ ...THIRTY, start, limit: 90 }).found;
    expect(total).toBe(expected.length);
    walked.push(...idsOf(page));
    if (!more) break;
    const { createdAt: at, id }: ArtifactSummary = page.at(-1)!;
    start = { after: { createdAt: at, id } };
  }
  expect(walked).toEqual(expected);
  for (const offset of [0, 1, 30, 700, 1_100, 1_440, expected.length - 31, expected.length - 1]) {
    const { rows: page } = find({ ...THIRTY, start: { offset } }).found;
    expect(idsOf(page)).toEqual(expected.slice(offset, offset + 30));
  }
});

test("of names that only old rows have the first and the last page are not sorted, and rows that join count", () => {
  const artifacts = Array.from({ length: 8_000 }, (_, i) =>
    plainArtifact(i, {
      createdAt: NOW + i * 60_000,
      filename: `${i > 2_000 && i < 4_000 ? "holiday" : "work"}-${i}.jpg`,
    }),
  );
  load(artifacts);
  const find = finder();
  const expected = idsOf(holidays(artifacts));
  find({ ...THIRTY, start: { offset: 0 } });
  for (const offset of [0, expected.length - 10]) {
    const { found, queries } = find({ ...THIRTY, start: { offset } });
    expect(idsOf(found.rows)).toEqual(expected.slice(offset, offset + 30));
    expect(queries.filter((text) => text.includes("artifact_name"))).toEqual([]);
  }
  // Without a step that says so, as where another process has written: it is counted again.
  load([plainArtifact(9_000, { createdAt: NOW + 9_000 * 60_000, filename: "holiday-new.jpg" })]);
  const { found } = find({ ...THIRTY, start: { offset: 0 } });
  expect(found.total).toBe(expected.length + 1);
  expect(idsOf(found.rows)).toEqual(["art_009000", ...expected.slice(0, 29)]);
});
