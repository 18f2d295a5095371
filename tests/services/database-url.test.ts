/** The parts of `--db postgres://…?…` that are docyard's own: read, refused in words, and kept to by a server. */

import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "pg";
import { describe, expect, test } from "vitest";
import { postgresOptions } from "../../packages/cli/src/targets.ts";
import { startFleet } from "./fleet.ts";
import { freshDatabase } from "./index.ts";

describe("what is written", () => {
  const plain = "postgres://docyard:p%40ss@db.example:5433/docyard?sslmode=require&host=%2Frun%2Fpg";

  test("is read, and all else left to the client library", () => {
    expect(postgresOptions(plain)).toEqual({ url: plain });
    expect(postgresOptions("postgres://db/docyard?connections=25&sslmode=require&prepare=false")).toEqual({
      url: "postgres://db/docyard?sslmode=require",
      connectionsMax: 25,
      prepare: false,
    });
    expect(postgresOptions("postgres:///docyard?prepare=true")).toEqual({
      url: "postgres:///docyard",
      prepare: true,
    });
  });

  test.each(["connections=0", "connections=1.5", "connections=many", "connections=", "connections=1001"])(
    "%s is refused",
    (query) => {
      expect(() => postgresOptions(`postgres://u:secret@db/docyard?${query}`)).toThrow(
        /^--db: connections= is a whole number from 1 to 1000$/,
      );
    },
  );

  test("prepare=no is refused", () => {
    expect(() => postgresOptions("postgres://u:secret@db/docyard?prepare=no")).toThrow(
      /^--db: prepare= is true or false$/,
    );
  });
});

test("a server takes no more connections than it may, and works without prepared statements", async () => {
  const database = await freshDatabase();
  const watcher = new Client({ connectionString: database.url });
  await watcher.connect();
  const target = new URL(database.url);
  target.searchParams.set("connections", "2");
  target.searchParams.set("prepare", "false");
  const fleet = await startFleet({ replicas: 1, args: ["--db", target.href, "--blob", "blobs"] });
  try {
    // Each of these keys has to be looked for, and none is there.
    const asking = Promise.all(
      Array.from({ length: 200 }, async (_, i) => {
        const headers = { Authorization: `Bearer dk_live_${i}` };
        return (await fetch(`${fleet.url}/api/v1/artifacts/x`, { headers })).status;
      }),
    );
    const counts: number[] = [];
    do counts.push(await connectionsOf(watcher));
    while ((await Promise.race([asking, sleep(5)])) === undefined);
    expect(new Set(await asking)).toEqual(new Set([401]));
    counts.push(await connectionsOf(watcher));
    expect(Math.max(...counts)).toBe(2);
  } finally {
    await fleet.close();
    await watcher.end();
    await database.remove();
  }
});

async function connectionsOf(watcher: Client): Promise<number> {
  const { rows } = await watcher.query<{ count: number }>(
    "select count(*)::int from pg_stat_activity where datname = current_database() and application_name = 'docyard'",
  );
  return rows[0]!.count;
}
