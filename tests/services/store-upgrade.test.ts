/**
 * A PostgreSQL database of docyard 0.1 becomes one of today's: whole or not at all, whenever the process dies, whoever
 * else upgrades it, and whoever still writes. With DOCYARD_TEST_FULL=1 it has a hundred thousand artifacts.
 */

import { createHash } from "node:crypto";
import { migrate, postgresStore } from "@docyard/adapters/store/postgres";
import { Client } from "pg";
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
  POSTGRES,
  schemaOne,
  type SchemaNumber,
  stepsTo,
  UPGRADE_ROWS,
  usagesOf,
} from "../adapters/old-schemas.ts";
import { dieUpgrading, pointsFrom, upgrade } from "../adapters/store-upgrade.ts";
import type { FreshDatabase } from "./index.ts";
import { freshDatabase } from "./index.ts";

const TIMEOUT_MS = 600_000;

let database: FreshDatabase;
let client: Client;
beforeEach(async () => {
  database = await freshDatabase();
  client = await connected(database);
});
afterEach(async () => {
  await client.end();
  await database.remove();
});

async function connected({ url }: FreshDatabase): Promise<Client> {
  const made = new Client({ connectionString: url });
  await made.connect();
  return made;
}

async function makeOld(rows: number, number: OldSchema = 1): Promise<void> {
  await client.query(await schemaOne(POSTGRES));
  await client.query("begin");
  for (const statement of fillOne(POSTGRES, rows)) await client.query(statement);
  for (const statement of stepsTo(number, POSTGRES)) await client.query(statement);
  await client.query("commit");
  await client.query("vacuum analyze");
}

/** Everything that must stay as it is, as a digest of each table. */
async function contentOf(number: SchemaNumber): Promise<string[]> {
  const digests: string[] = [];
  for (const query of kept(number)) {
    const { rows } = await client.query<Record<string, unknown>>(query);
    const hash = createHash("sha256");
    for (const row of rows) hash.update(JSON.stringify(row));
    digests.push(hash.digest("hex"));
  }
  return digests;
}

/** Columns, indexes, constraints and steps. */
async function schemaOf(asker: Client): Promise<unknown> {
  const questions = [
    `select table_name, column_name, ordinal_position, data_type, collation_name, is_nullable, column_default, is_identity
      from information_schema.columns where table_schema = 'public' order by 1, 3`,
    "select tablename, indexname, indexdef from pg_indexes where schemaname = 'public' order by 1, 2",
    `select conrelid::regclass::text as of, conname, pg_get_constraintdef(oid) as def from pg_constraint
      where connamespace = 'public'::regnamespace order by 1, 2`,
    "select extname from pg_extension order by 1",
    "select number, name from migration order by number",
  ];
  const answers: unknown[] = [];
  for (const question of questions) answers.push((await asker.query(question)).rows);
  return answers;
}

async function expectCountsRight(rows: number): Promise<void> {
  const { rows: marks } = await client.query<string[]>({ text: MARKS, rowMode: "array" });
  expect(marks.map(([dock, ...numbers]) => [dock, ...numbers.map(Number)])).toEqual(marksOf(rows));
  const store = await postgresStore({ url: database.url });
  for (const [dockId, usage] of usagesOf(rows)) expect(await store.artifacts.usage(dockId)).toEqual(usage);
  await store.close();
}

test.each([1, 2, 3, 4] as const)(
  `an upgrade from schema %d of ${UPGRADE_ROWS} artifacts that is killed anywhere is done by the next, to the same end`,
  async (number) => {
    await makeOld(UPGRADE_ROWS, number);
    const [content, schema] = [await contentOf(number), await schemaOf(client)];
    const points = pointsFrom(number);
    for (const point of points) {
      await dieUpgrading(POSTGRES, database.url, point);
      if (point === points.at(-1)) continue;
      expect(await schemaOf(client)).toEqual(schema);
      expect(await contentOf(number)).toEqual(content);
    }
    // The last one died after its commit: it is done.
    expect(await upgrade(POSTGRES, database.url, 1)).toEqual([{ from: NEWEST, to: NEWEST }]);
    expect(await contentOf(NEWEST)).toEqual(content);
    await expectCountsRight(UPGRADE_ROWS);
    const fresh = await freshDatabase();
    try {
      await migrate({ url: fresh.url });
      const other = await connected(fresh);
      expect(await schemaOf(client)).toEqual(await schemaOf(other));
      await other.end();
    } finally {
      await fresh.remove();
    }
  },
  TIMEOUT_MS,
);

test(
  "of three processes that upgrade at once one does, and all go on",
  async () => {
    await makeOld(500);
    const migrated = await upgrade(POSTGRES, database.url, 3);
    expect(migrated.map(({ from }) => from).sort((a, b) => a - b)).toEqual([1, NEWEST, NEWEST]);
    await expectCountsRight(500);
  },
  TIMEOUT_MS,
);

test(
  "a writer of docyard 0.1 either commits before the upgrade and is counted, or cannot commit",
  async () => {
    await makeOld(10);
    const [early, late] = [await connected(database), await connected(database)];
    const insert = (id: string): string =>
      `insert into artifact select (jsonb_populate_record(a, '{"n":${id.length + 1_000},"id":"${id}","upload_id":"${id}",
        "status":"created","digest":null,"size":5}')).* from artifact as a where id = 'art_00000004'`;
    try {
      const begin = async (writer: Client, id: string): Promise<void> => {
        await writer.query("begin");
        await writer.query(
          insert(id).replace("insert into artifact", "insert into artifact overriding system value"),
        );
      };
      const waiting =
        "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
      const areWaiting = async (number: number): Promise<void> =>
        expect.poll(async () => (await client.query(waiting)).rowCount, { timeout: 30_000 }).toBe(number);
      await begin(early, "art_early");
      const migrating = migrate({ url: database.url });
      await areWaiting(1);
      const beginning = begin(late, "art_later_still");
      await areWaiting(2);
      // Nobody waits for somebody who waits for him.
      await early.query(COUNT_OF_OLD);
      await early.query("commit");
      expect(await migrating).toEqual({ from: 1, to: NEWEST });
      await beginning;
      await expect(late.query(COUNT_OF_OLD)).rejects.toThrow(/"dock_log" does not exist/);
      await late.query("rollback");
    } finally {
      await early.end();
      await late.end();
    }
    const store = await postgresStore({ url: database.url });
    const { artifacts, open, bytes } = usagesOf(10).get("dock_0")!;
    expect(await store.artifacts.usage("dock_0")).toEqual({
      artifacts: artifacts + 1,
      open: open + 1,
      bytes: bytes + 5,
    });
    await store.close();
  },
  TIMEOUT_MS,
);

test(
  "a writer of schema 2 cannot complete what it would not mark",
  async () => {
    await makeOld(100, 2);
    await migrate({ url: database.url });
    await expect(client.query(JOIN_OF_TWO)).rejects.toThrow(/"listing" does not exist/);
    await expectCountsRight(100);
  },
  TIMEOUT_MS,
);

test(
  "a writer of schema 3 cannot complete what it would not keep the number of",
  async () => {
    await makeOld(100, 3);
    await migrate({ url: database.url });
    await expect(client.query(MARK_OF_THREE)).rejects.toThrow(/"listing_mark" does not exist/);
    await expectCountsRight(100);
  },
  TIMEOUT_MS,
);
