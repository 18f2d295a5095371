/**
 * How SQLite answers each shape of list: by walking an index in the list's order, without sorting, and with statements
 * that it need not compile anew for each set of values.
 */
/* oxlint-disable vitest/no-conditional-expect -- what a statement must not have depends on what it is about */

import { artifactSql } from "../../packages/adapters/src/store/sql-artifacts.ts";
import type { DumpStep } from "../../packages/adapters/src/store/sql-dump.ts";
import { dumpSql } from "../../packages/adapters/src/store/sql-dump.ts";
import { loadSql } from "../../packages/adapters/src/store/sql-load.ts";
import type { Query } from "../../packages/adapters/src/store/sql.ts";
import { sqliteDialect } from "../../packages/adapters/src/store/sqlite-dialect.ts";
import type { Execute } from "../../packages/adapters/src/store/sqlite-open.ts";
import { drive, openSqlite } from "../../packages/adapters/src/store/sqlite-open.ts";
import type { FindQuery } from "@docyard/core";
import type { Database } from "better-sqlite3";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { plainArtifact } from "../arbitraries.ts";

const ROWS = 2_500;
const artifacts = artifactSql(sqliteDialect);
let db: Database;
let execute: Execute;
beforeAll(async () => {
  ({ db, execute } = await openSqlite({ file: ":memory:" }));
  db.transaction(() => {
    for (let i = 0; i < ROWS; i++) {
      const artifact = plainArtifact(i, {
        metadata: { all: 1, half: i % 2, some: i % 50 },
        filename: `scan ${i % 700 === 0 ? "rare" : "usual"} ${i}.pdf`,
        ...(i % 10 === 0 ? { status: "created" } : {}),
      });
      drive(artifacts.insert(artifact, { type: "artifact.created", at: i, by: null }), execute);
    }
  })();
});
afterAll(() => void db.close());

/** The plan of each statement that an operation runs, beside its text. */
function plansOf<T>(operation: Generator<Query, T, readonly unknown[]>): { sql: string; plan: string[] }[] {
  const plans: { sql: string; plan: string[] }[] = [];
  drive(operation, (query) => {
    const rows = db.prepare(`explain query plan ${query.sql}`).all(...query.parameters) as {
      detail: string;
    }[];
    plans.push({ sql: query.sql, plan: rows.map(({ detail }) => detail) });
    return execute(query);
  });
  return plans;
}

/** The plans of each page of a dump. */
function dumpPlans(first: DumpStep = dumpSql(sqliteDialect)): { sql: string; plan: string[] }[] {
  const { next } = drive(first(), execute);
  return [...plansOf(first()), ...(next === null ? [] : dumpPlans(next))];
}

const base: FindQuery = {
  dockId: "dock_a",
  face: "machine",
  statuses: ["upload_completed"],
  start: { offset: 0 },
  limit: 20,
};
const after = { createdAt: plainArtifact(1_200).createdAt, id: plainArtifact(1_200).id };

const shapes: [name: string, over: Partial<FindQuery>, walks: RegExp][] = [
  ["the first page", {}, /INDEX artifact_list/],
  ["a page by offset from the near end", { start: { offset: ROWS - 400 } }, /INDEX artifact_list/],
  ["a page by cursor", { start: { after } }, /INDEX artifact_list \(.*\(created_at,id\)<\(/],
  ["a time", { createdAfter: 5, createdBefore: after.createdAt }, /INDEX artifact_list \(.*created_at>\?/],
  ["one field", { filter: { some: 7 } }, /PRIMARY KEY \(term=\?\)/],
  [
    "one field by cursor",
    { filter: { half: 1 }, start: { after } },
    /PRIMARY KEY \(term=\? AND \(created_at,id\)<\(/,
  ],
  ["two fields", { filter: { half: 1, all: 1 } }, /PRIMARY KEY \(term=\?\)/],
  ["a kind of media", { mediaType: "video", filter: { half: 1 } }, /INDEX .*term/],
  ["a search that many names match", { search: "usual" }, /INDEX artifact_list/],
  ["a search and a frequent field", { search: "usual", filter: { all: 1 } }, /PRIMARY KEY \(term=\?/],
  ["a search too short for the index", { search: "ra" }, /INDEX artifact_list/],
  ["several statuses", { statuses: ["created", "upload_completed"] }, /INDEX artifact_list/],
  [
    "several statuses by cursor",
    { statuses: ["created", "upload_completed"], start: { after } },
    /INDEX artifact_list/,
  ],
];

describe("a list", () => {
  test.each(shapes)("of %s is a walk of an index, in its order", (_, over, walks) => {
    const plans = plansOf(artifacts.find({ ...base, ...over }));
    const lines = plans.flatMap(({ plan }) => plan);
    expect(lines.filter((line) => /TEMP B-TREE/.test(line))).toEqual([]);
    // Virtual tables and subqueries of one page say SCAN as well.
    expect(lines.filter((line) => /^SCAN (?!.*VIRTUAL TABLE|w\b|CONSTANT)/.test(line))).toEqual([]);
    expect(lines.some((line) => walks.test(line))).toBe(true);
  });

  test("of a search that few names match asks the name index once, and reads those rows by their numbers", () => {
    const plans = plansOf(artifacts.find({ ...base, search: "rare" }));
    const lines = plans.flatMap(({ plan }) => plan);
    expect(lines.filter((line) => line.includes("VIRTUAL TABLE"))).toHaveLength(1);
    expect(lines.filter((line) => /TEMP B-TREE|^SCAN (?!.*VIRTUAL TABLE)/.test(line))).toEqual([]);
  });

  test("whose total an index knows counts nothing", () => {
    const known: Partial<FindQuery>[] = [
      {},
      { filter: { some: 7 } },
      { filter: { half: 0 }, start: { after } },
    ];
    for (const over of known) {
      for (const { sql } of plansOf(artifacts.find({ ...base, ...over }))) expect(sql).not.toMatch(/count\(/);
    }
  });
});

test("every lookup is by an index", () => {
  const plans = [
    ...plansOf(artifacts.get({ id: "art_1" })),
    ...plansOf(artifacts.status("art_1")),
    ...plansOf(artifacts.get({ uploadId: "upload_1" })),
    ...plansOf(artifacts.findByDigest("dock_a", "0".repeat(64))),
    ...plansOf(artifacts.findByDigest("dock_a", "0".repeat(64), "studio")),
    ...plansOf(artifacts.findByDigest("dock_a", "f".repeat(64), "machine")),
    ...plansOf(artifacts.isBlobInUse("x")),
    ...plansOf(artifacts.due({ status: "deleted", until: 5, limit: 10 })),
    ...plansOf(artifacts.events("dock_a", 0, 10)),
    ...plansOf(artifacts.usage("dock_a")),
    ...plansOf(artifacts.walk("art_1", 10)),
    ...dumpPlans(),
  ];
  for (const { plan } of plans) expect(plan.filter((line) => /^SCAN|TEMP B-TREE/.test(line))).toEqual([]);
});

test("no parameter stands where SQLite would look at it while it compiles", () => {
  const queries = shapes.flatMap(([, over]) => plansOf(artifacts.find({ ...base, ...over })));
  const others = [
    ...plansOf(artifacts.due({ status: "deleted", until: 5, limit: 10 })),
    ...plansOf(artifacts.events("dock_a", 0, 10)),
    ...plansOf(artifacts.findByDigest("dock_a", "f".repeat(64), "studio")),
    ...plansOf(artifacts.isBlobInUse("x")),
    ...plansOf(artifacts.walk("art_1", 10)),
    ...dumpPlans(),
  ];
  for (const { sql } of [...queries, ...others]) {
    expect(sql).not.toMatch(/\b(limit|offset) \?/);
    const isAboutRows = !sql.includes('"listing_count"');
    if (isAboutRows) expect(sql).not.toMatch(/\b"?(status|face|shares_blob)"? (=|in) \(?\?/);
    if (/\border by\b/.test(sql)) expect(sql).not.toMatch(/ = \?/);
  }
});

describe("what a change costs in statements", () => {
  const event = { type: "artifact.created", at: 0, by: null } as const;
  const quota = { artifacts: 1_000_000, open: 1_000_000, bytes: 1e15 };
  const open = (number: number) => plainArtifact(number, { status: "created" });
  const costOf = <T>(operation: Generator<Query, T, readonly unknown[]>): number => {
    let statements = 0;
    drive(operation, (query) => {
      statements++;
      return execute(query);
    });
    return statements;
  };

  test("usage costs none; a quota one read, and only for what grows", () => {
    // Row, counts, event.
    expect(costOf(artifacts.insert(open(10_001), event))).toBe(3);
    expect(costOf(artifacts.insert(open(10_002), event, {}))).toBe(3);
    expect(costOf(artifacts.insert(open(10_003), event, quota))).toBe(4);
    const { id } = open(10_003);
    // Old row, row, counts, event.
    expect(costOf(artifacts.update(id, 1, { attempts: 1 }, event, quota))).toBe(4);
    expect(costOf(artifacts.update(id, 2, { size: 20_000 }, event, quota))).toBe(5);
    expect(costOf(artifacts.update(id, 3, { size: 1 }, event, quota))).toBe(4);
    // A lease that is renewed counts nothing.
    expect(costOf(artifacts.update(id, 4, { dueAt: 1 }, null, quota))).toBe(2);
    expect(costOf(artifacts.update(id, 5, { size: 2 }, null))).toBe(3);
  });

  test("a load of a thousand takes few: a hundred rows each, and one for each name", () => {
    const load = loadSql(sqliteDialect);
    const rows = Array.from({ length: 1_000 }, (_, i) =>
      plainArtifact(20_000 + i, { dockId: "dock_load", metadata: { all: 1, half: i % 2, own: i } }),
    );
    const records = rows.flatMap((artifact, i) => [
      { kind: "artifact", artifact } as const,
      {
        kind: "event",
        event: { ...event, data: {}, dockId: "dock_load", artifactId: artifact.id, seq: i + 1 },
      } as const,
    ]);
    let [bulk, names] = [0, 0];
    drive(load(records), (query) => {
      if (query.sql.startsWith("insert into artifact_name ")) names++;
      else bulk++;
      return execute(query);
    });
    expect(names).toBe(1_000);
    // Ten each of artifacts, events and terms, thirty of what has which term, and the counts.
    expect(bulk).toBeLessThan(70);
  });
});
