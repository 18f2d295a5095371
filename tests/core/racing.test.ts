/**
 * The dedup race of racing.ts on the store in memory and on a SQLite file; PostgreSQL runs it with the services.
 * Interleavings chosen on purpose are in settle.test.ts: here real concurrency chooses.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { memoryStore } from "@docyard/adapters/store/memory";
import { sqliteStore } from "@docyard/adapters/store/sqlite";
import { describe, test } from "vitest";

import { raceCompletes } from "./racing.ts";

describe("uploads of the same bytes that complete at once leave one artifact", () => {
  test("on memory: 16 racers, 500 rounds", async () => {
    // In ten worlds: the store in memory scans all its rows, so one of 8,000 would mostly test that.
    for (let world = 0; world < 10; world++) {
      await raceCompletes(async () => memoryStore(), { racers: 16, rounds: 50 });
    }
  });

  test("on memory: 8 racers that each send 4 completes, 100 rounds", async () => {
    await raceCompletes(async () => memoryStore(), { racers: 8, rounds: 100, repeats: 4 });
  });

  const rounds = process.env["DOCYARD_TEST_FULL"] === "1" ? 500 : 200;
  test(`on SQLite: 16 racers, ${rounds} rounds`, async () => {
    await onSqliteFile((file) => raceCompletes(() => sqliteStore({ file }), { racers: 16, rounds }));
  }, 240_000);

  test("on SQLite: 64 racers that each send 2 completes, 5 rounds", async () => {
    await onSqliteFile((file) =>
      raceCompletes(() => sqliteStore({ file }), { racers: 64, rounds: 5, repeats: 2 }),
    );
  });
});

async function onSqliteFile(run: (file: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "docyard-racing-"));
  try {
    await run(join(folder, "docyard.db"));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
