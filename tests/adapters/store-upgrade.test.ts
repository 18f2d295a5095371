/**
 * A SQLite file of docyard 0.1 becomes one of today's: whole or not at all, whenever the process dies, and whoever else
 * upgrades it. With DOCYARD_TEST_FULL=1 it has a hundred thousand artifacts.
 */

import { createHash } from "node:crypto";
import { sqliteStore } from "@docyard/adapters/store/sqlite";
import SqliteDatabase from "better-sqlite3";
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  COUNT_OF_OLD,
  fillOne,
  JOIN_OF_TWO,
  kept,
  MARK_OF_THREE,
  MARKS,
  marksOf,
  NEWEST,
  type OldSchema,
  schemaOne,
  type SchemaNumber,
  SQLITE,
  stepsTo,
  UPGRADE_ROWS,
  usagesOf,
} from "./old-schemas.ts";
import type { Folder } from "./store-files.ts";
import { temporaryFolder } from "./store-files.ts";
import { dieUpgrading, pointsFrom, upgrade } from "./store-upgrade.ts";

const TIMEOUT_MS = 600_000;

let folder: Folder;
beforeEach(async () => {
  folder = await temporaryFolder();
});
afterEach(() => folder.remove());

function asked<T>(file: string, ask: (db: SqliteDatabase.Database) => T): T {
  const db = new SqliteDatabase(file);
  try {
    return ask(db);
  } finally {
    db.close();
  }
}

async function makeOld(file: string, rows: number, number: OldSchema = 1): Promise<void> {
  const schema = await schemaOne(SQLITE);
  asked(file, (db) => {
    db.pragma("journal_mode = wal");
    db.exec(schema);
    db.transaction(() => {
      for (const statement of fillOne(SQLITE, rows)) db.exec(statement);
      for (const statement of stepsTo(number, SQLITE)) db.exec(statement);
    })();
  });
}

/** Everything that must stay as it is, as a digest of each table. */
function contentOf(file: string, number: SchemaNumber): string[] {
  return asked(file, (db) =>
    kept(number).map((query) => {
      const hash = createHash("sha256");
      for (const row of db.prepare(query).raw().iterate()) hash.update(JSON.stringify(row));
      return hash.digest("hex");
    }),
  );
}

function schemaOf(file: string): unknown {
  return asked(file, (db) => [
    db.prepare("select type, name, tbl_name, sql from sqlite_schema order by type, name").all(),
    db.prepare("select number, name from migration order by number").all(),
  ]);
}

/** Right is what the numbers say; and the store works on. */
async function expectRight(file: string, rows: number): Promise<void> {
  expect(asked(file, (db) => db.prepare(MARKS).raw().all())).toEqual(marksOf(rows));
  const store = await sqliteStore({ file });
  for (const [dockId, usage] of usagesOf(rows)) expect(await store.artifacts.usage(dockId)).toEqual(usage);
  expect(await store.artifacts.usage("dock_none")).toEqual({ artifacts: 0, open: 0, bytes: 0 });
  const event = { type: "artifact.deleted", at: 1, by: null } as const;
  const list = { dockId: "dock_1", face: "machine", statuses: ["upload_completed"], limit: 5 } as const;
  for (const over of [{}, { filter: { a: 2 } }, { search: "scan" }]) {
    const query = { ...list, ...over, start: { offset: 0 } };
    const before = await store.artifacts.find(query);
    const used = await store.artifacts.usage("dock_1");
    expect(before.rows.length).toBeGreaterThan(0);
    const [{ id, size }] = before.rows as [(typeof before.rows)[0]];
    expect(await store.artifacts.update(id, 1, { status: "deleted" }, event)).not.toBeNull();
    expect((await store.artifacts.find(query)).total).toBe(before.total - 1);
    const { artifacts, open, bytes } = used;
    expect(await store.artifacts.usage("dock_1")).toEqual({
      artifacts: artifacts - 1,
      open,
      bytes: bytes - (size ?? 0),
    });
  }
  await store.close();
  expect(asked(file, (db) => db.pragma("integrity_check", { simple: true }))).toBe("ok");
}

test.each([1, 2, 3, 4] as const)(
  `an upgrade from schema %d of ${UPGRADE_ROWS} artifacts that is killed anywhere is done by the next, to the same end`,
  async (number) => {
    const { file } = folder;
    await makeOld(file, UPGRADE_ROWS, number);
    const [content, schema] = [contentOf(file, number), schemaOf(file)];
    const points = pointsFrom(number);
    for (const point of points) {
      await dieUpgrading(SQLITE, file, point);
      if (point === points.at(-1)) continue;
      expect(schemaOf(file)).toEqual(schema);
      expect(contentOf(file, number)).toEqual(content);
    }
    // The last one died after its commit: it is done.
    expect(await upgrade(SQLITE, file, 1)).toEqual([{ from: NEWEST, to: NEWEST }]);
    expect(contentOf(file, NEWEST)).toEqual(content);
    const fresh = `${file}.fresh`;
    await (await sqliteStore({ file: fresh })).close();
    expect(schemaOf(file)).toEqual(schemaOf(fresh));
    await expectRight(file, UPGRADE_ROWS);
  },
  TIMEOUT_MS,
);

test(
  "of three processes that upgrade at once one does, and all go on",
  async () => {
    await makeOld(folder.file, 500);
    const migrated = await upgrade(SQLITE, folder.file, 3);
    expect(migrated.map(({ from }) => from).sort((a, b) => a - b)).toEqual([1, NEWEST, NEWEST]);
    expect(migrated.map(({ to }) => to)).toEqual([NEWEST, NEWEST, NEWEST]);
    await expectRight(folder.file, 500);
  },
  TIMEOUT_MS,
);

test(
  "a process of docyard 0.1 that is still running cannot change what it would not count",
  async () => {
    await makeOld(folder.file, 10);
    const old = new SqliteDatabase(folder.file);
    const count = old.prepare(COUNT_OF_OLD);
    count.run();
    await (await sqliteStore({ file: folder.file })).close();
    expect(() => count.run()).toThrow(/no such table: dock_log/);
    old.close();
    const store = await sqliteStore({ file: folder.file });
    expect(await store.artifacts.usage("dock_0")).toEqual(usagesOf(10).get("dock_0"));
    await store.close();
  },
  TIMEOUT_MS,
);

test.each([
  [2, "mark", JOIN_OF_TWO, "listing"],
  [3, "keep the number of", MARK_OF_THREE, "listing_mark"],
] as const)(
  "a process of schema %d that is still running cannot complete what it would not %s",
  async (number, _what, statement, table) => {
    await makeOld(folder.file, 100, number);
    const old = new SqliteDatabase(folder.file);
    const join = old.prepare(statement);
    await (await sqliteStore({ file: folder.file })).close();
    expect(() => join.run()).toThrow(`no such table: ${table}`);
    old.close();
    await expectRight(folder.file, 100);
  },
  TIMEOUT_MS,
);
