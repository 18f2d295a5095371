/** The store on PostgreSQL keeps the contracts of every store, and its own promises when the server goes or hangs. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { testAccountStore } from "@docyard/adapters/conformance/account-store";
import type { OpenStore } from "@docyard/adapters/conformance/artifact-store";
import { testArtifactStore } from "@docyard/adapters/conformance/artifact-store";
import { testStoreRecords } from "@docyard/adapters/conformance/store-records";
import type { PostgresStoreOptions } from "@docyard/adapters/store/postgres";
import { migrate, postgresStore } from "@docyard/adapters/store/postgres";
import type { Artifact, ArtifactEvent, Store } from "@docyard/core";
import { isDocyardError, summaryOf } from "@docyard/core";
import { Client } from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { Pair } from "../adapters/store-counts.ts";
import { checkCounts } from "../adapters/store-counts.ts";
import { checkHistories } from "../adapters/store-history.ts";
import { plainArtifact } from "../arbitraries.ts";
import { NODE_ARGS } from "../sources.ts";
import type { FreshDatabase, PostgresService } from "./index.ts";
import { freshDatabase, startPostgres } from "./index.ts";

const created = { type: "artifact.created", at: 0, by: null } as const;

/** What cases use of an empty database over and over: making one takes longer than most cases. */
const spare: FreshDatabase[] = [];
let template: FreshDatabase;
const stores: Store[] = [];

beforeAll(async () => {
  template = await freshDatabase();
});
afterEach(async () => {
  for (const store of stores.splice(0)) await store.close();
});
afterAll(async () => {
  for (const database of [template, ...spare]) await database.remove();
});

async function open(options: Partial<PostgresStoreOptions> & { readonly url: string }): Promise<Store> {
  const store = await postgresStore(options);
  stores.push(store);
  return store;
}

async function ask<T>(url: string, text: string): Promise<T[]> {
  const client = new Client({ connectionString: url });
  client.on("error", () => {});
  await client.connect();
  try {
    return (await client.query(text)).rows as T[];
  } finally {
    await client.end();
  }
}

const EMPTY =
  "truncate artifact, event, dock_count, listing_count, listing_stretch, term, posting, account restart identity";

/** A store on an empty database; once closed, no connection may be left. */
async function openEmpty(): Promise<OpenStore & { readonly url: string }> {
  const database = spare.pop() ?? (await freshDatabase());
  const opened: Store[] = [];
  const openAgain = async (): Promise<Store> => {
    const store = await postgresStore({ url: database.url });
    opened.push(store);
    return store;
  };
  const closeAll = async (): Promise<void> => {
    for (const store of opened) await store.close();
  };
  return {
    url: database.url,
    store: await openAgain(),
    async reopen() {
      await closeAll();
      return openAgain();
    },
    leftovers: () => sessions(database.url),
    async close() {
      await closeAll();
      await ask(database.url, EMPTY);
      spare.push(database);
    },
  };
}

/** What docyard's sessions in this database are doing; a closed connection may take the server a moment. */
async function sessions(url: string): Promise<string[]> {
  const deadline = Date.now() + 5_000;
  for (;;) {
    const left = await ask<{ state: string; query: string }>(
      url,
      "select state, query from pg_stat_activity where datname = current_database() and application_name = 'docyard'",
    );
    if (left.length === 0 || Date.now() > deadline)
      return left.map(({ state, query }) => `${state}: ${query}`);
    await sleep(10);
  }
}

testArtifactStore("postgres", openEmpty);
testAccountStore("postgres", openEmpty);
testStoreRecords("postgres", openEmpty);

test("after any history it answers as the store in memory, and so does what is loaded from its dump", async () => {
  await checkHistories(openEmpty, process.env["DOCYARD_TEST_FULL"] === "1" ? 200 : 3);
}, 600_000);

test("law: totals that are remembered and counted on are what counting anew says", async () => {
  const openPair = async (): Promise<Pair> => {
    const database = spare.pop() ?? (await freshDatabase());
    const opened = [await open(database), await open(database)] as const;
    return {
      stores: opened,
      async close() {
        for (const store of opened) await store.close();
        await database.remove();
      },
    };
  };
  await checkCounts(openPair, process.env["DOCYARD_TEST_FULL"] === "1" ? 200 : 15);
}, 600_000);

describe("a dump", () => {
  /** Sessions inside a transaction: none is left of a dump that is over. */
  const reading = (url: string): Promise<string[]> =>
    ask<{ state: string }>(
      url,
      `select state from pg_stat_activity where datname = current_database() and application_name = 'docyard'
        and state like 'idle in transaction%'`,
    ).then((rows) => rows.map(({ state }) => state));

  test("is let go of when its reader stops, its signal aborts or its store closes, and waits for a slow reader", async () => {
    const opened = await openEmpty();
    const url = opened.url;
    const store = await open({ url, idleTransactionTimeoutMs: 100, connectionsMax: 1 });
    try {
      const rows = Array.from({ length: 600 }, (_, i) => plainArtifact(i));
      await opened.store.load(rows.map((artifact) => ({ kind: "artifact", artifact }) as const));
      for await (const _ of store.dump()) break;
      await expect.poll(() => reading(url), { timeout: 10_000 }).toEqual([]);

      const controller = new AbortController();
      const aborted = store.dump({ signal: controller.signal })[Symbol.asyncIterator]();
      await aborted.next();
      expect(await reading(url)).toHaveLength(1);
      controller.abort(new Error("enough"));
      // Though nobody asks it for more.
      await expect.poll(() => reading(url), { timeout: 10_000 }).toEqual([]);
      await expect(aborted.next()).rejects.toThrow("enough");

      const slow = store.dump()[Symbol.asyncIterator]();
      const first = await slow.next();
      // Longer than a transaction that may hold locks is left idle; and its pool of one serves others meanwhile.
      await sleep(300);
      expect(await store.artifacts.get({ id: plainArtifact(5).id })).not.toBeNull();
      await opened.store.artifacts.insert(plainArtifact(9_999), created);
      let read = (first.value as readonly unknown[]).length;
      for (let next = await slow.next(); next.done !== true; next = await slow.next())
        read += next.value.length;
      expect(read).toBe(600);

      const cut = store.dump()[Symbol.asyncIterator]();
      await cut.next();
      await ask(
        url,
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'docyard' and state = 'idle in transaction'",
      );
      await expect(cut.next()).rejects.toMatchObject({ code: "upstream_failed" });

      const closed = store.dump()[Symbol.asyncIterator]();
      await closed.next();
      await store.close();
      await expect.poll(() => reading(url), { timeout: 10_000 }).toEqual([]);
      await expect(closed.next()).rejects.toThrow("the store is closed");
    } finally {
      await store.close();
      await opened.close();
    }
  });
});

test("without prepared statements, as behind a pooler, the same answers come", async () => {
  const store = await open({ url: template.url, prepare: false });
  const row = plainArtifact(1, { dockId: "dock_unprepared", metadata: { a: 1 } });
  await store.artifacts.insert(row, created);
  const found = await store.artifacts.find({
    dockId: row.dockId,
    face: "machine",
    statuses: ["upload_completed"],
    filter: { a: 1 },
    start: { offset: 0 },
    limit: 10,
  });
  expect(found).toEqual({ rows: [summaryOf(row)], total: 1, more: false });
});

describe("replicas that start at once", () => {
  test("migrate an empty database together: one does, all go on", async () => {
    const database = await freshDatabase();
    try {
      const migrated = await Promise.all(Array.from({ length: 8 }, () => migrate({ url: database.url })));
      const [{ to }] = migrated as [(typeof migrated)[0]];
      expect(migrated.filter(({ from }) => from === 0)).toHaveLength(1);
      expect(migrated.filter(({ from }) => from === to)).toHaveLength(7);
      expect(await ask(database.url, "select count(*)::int as n from migration")).toEqual([{ n: to }]);
    } finally {
      await database.remove();
    }
  });

  test("a schema of a later version is left alone", async () => {
    const database = await freshDatabase();
    try {
      await migrate({ url: database.url });
      await ask(database.url, "insert into migration values (9999, 'from the future', 0)");
      await expect(postgresStore({ url: database.url })).rejects.toThrow(/schema 9999 is newer/);
    } finally {
      await database.remove();
    }
  });
});

describe("the event log of a dock", () => {
  /** Reads on and on as a follower does, from the last number it has seen. */
  async function follow(store: Store, dockId: string, isOver: () => boolean): Promise<ArtifactEvent[]> {
    const seen: ArtifactEvent[] = [];
    for (let last = false; ;) {
      const next = await store.artifacts.events(dockId, seen.at(-1)?.seq ?? 0, 7);
      seen.push(...next);
      if (next.length > 0) continue;
      if (last) return seen;
      last = isOver();
    }
  }

  test("two replicas write, connections are cut and writes undone: readers see every number once, in order", async () => {
    const dockId = "dock_log";
    const [a, b] = [await open({ url: template.url }), await open({ url: template.url })];
    let isOver = false;
    let written = 0;
    const write = async (store: Store, writer: number): Promise<void> => {
      for (let i = 0; i < 60; i++) {
        const number = writer * 1_000 + i;
        // Every third one is refused after its number was taken: its digest is a neighbour's.
        const digest = (i % 3 === 2 ? number - 1 : number).toString(16).padStart(64, "0");
        const row = plainArtifact(number, { dockId, digest, status: "created" });
        const isMade = await store.artifacts.insert(row, created).then(() => true, mayBeCut);
        if (isMade) written++;
        const done = await store.artifacts
          .update(row.id, 1, { status: "upload_completed" }, { ...created, type: "artifact.completed" })
          .catch(mayBeCut);
        if (done) written++;
      }
    };
    const cut = async (): Promise<void> => {
      for (let i = 0; i < 8; i++) {
        await sleep(50);
        await ask(
          template.url,
          "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'docyard' and random() < 0.3",
        );
      }
    };
    const writers = Promise.all([write(a, 1), write(a, 2), write(b, 3), write(b, 4), cut()]).finally(() => {
      isOver = true;
    });
    const followers = Promise.all([a, b, a].map((store) => follow(store, dockId, () => isOver)));
    const [logs] = await Promise.all([followers, writers]);
    for (const log of logs) {
      expect(log.map(({ seq }) => seq)).toEqual(log.map((_, i) => i + 1));
      expect(log).toEqual(logs[0]);
    }
    // A commit whose answer was cut off may have happened.
    expect(logs[0]!.length).toBeGreaterThanOrEqual(written);
    const rows = await ask<{ n: number; v: number }>(
      template.url,
      `select count(*)::int as n, sum(version)::int as v from artifact where dock_id = '${dockId}'`,
    );
    // One event for the insert and one for each further version: none without its row, no row without its events.
    expect(logs[0]).toHaveLength(rows[0]!.v);
  });

  /** A connection that was cut may fail a write with the one error that says so; what is refused stays refused. */
  function mayBeCut(error: unknown): undefined {
    if (isDocyardError(error, "upstream_failed") || isDocyardError(error, "already_exists")) return undefined;
    throw error;
  }
});

test("where the server's disk is full, a write is refused in words for the client, and whole", async () => {
  const { url, remove } = await freshDatabase();
  const store = await open({ url });
  await store.artifacts.insert(plainArtifact(1), created);
  // As the server says it when it cannot make a file longer; here for a row's event, after the row itself.
  await ask(
    url,
    `create function refuse() returns trigger language plpgsql as $$ begin
      raise exception 'could not extend file: No space left on device' using errcode = 'disk_full'; end $$;
    create trigger full_disk before insert on event for each row execute function refuse()`,
  );
  const refused = await store.artifacts.insert(plainArtifact(2), created).catch((error: unknown) => error);
  expect(refused).toMatchObject({ code: "no_space", message: expect.stringMatching(/no space/) });
  expect((await store.artifacts.walk("", 10)).map(({ id }) => id)).toEqual([plainArtifact(1).id]);
  await ask(url, "drop trigger full_disk on event");
  await store.artifacts.insert(plainArtifact(2), created);
  await store.close();
  await remove();
});

test("after a failover that lost commits totals are those of the server that is there now", async () => {
  const { url, store, close } = await openEmpty();
  const other = await open({ url });
  const filter = { kind: "x", ward: 1 };
  const insert = async (to: Store, count: number, kind: string): Promise<void> => {
    const at = kind.charCodeAt(0) * 1_000;
    for (let i = at; i < at + count; i++) {
      await to.artifacts.insert(
        plainArtifact(i, { dockId: "dock_lost", metadata: { ...filter, kind } }),
        created,
      );
    }
  };
  const total = async (of: Store): Promise<number> => {
    const statuses = ["upload_completed"] as const;
    const asked = { dockId: "dock_lost", face: "machine", statuses, filter, limit: 5 } as const;
    return (await of.artifacts.find({ ...asked, start: { offset: 0 } })).total;
  };
  await insert(store, 20, "x");
  expect(await total(store)).toBe(20);
  // Other commits take the numbers of those that the successor has not got.
  await ask(
    url,
    `${EMPTY}; select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and application_name = 'docyard'`,
  );
  await insert(other, 10, "x");
  await insert(other, 10, "y");
  expect(await total(other)).toBe(10);
  expect(await total(store)).toBe(10);
  await close();
});

test("a connection to a server that takes no writes is left for another, as after a failover", async () => {
  const { url, remove } = await freshDatabase();
  const name = new URL(url).pathname.slice(1);
  await migrate({ url });
  await ask(url, `alter database ${name} set default_transaction_read_only = on`);
  const store = await open({ url, connectionsMax: 1 });
  await store.ready();
  await ask(url, `begin read write; alter database ${name} reset default_transaction_read_only; commit`);
  // Nothing of this write is waited for before its commit.
  const row = plainArtifact(1, { status: "created" });
  await store.artifacts.insert(row, created);
  expect(await store.artifacts.get({ id: row.id })).toEqual(row);
  await store.close();
  await remove();
});

describe("a server of one's own", () => {
  let server: PostgresService;
  beforeAll(async () => {
    server = await startPostgres();
  });
  afterAll(async () => {
    await server.stop();
  });

  const rowOf = (number: number): Artifact => plainArtifact(number, { dockId: "dock_outage" });
  let next = 1;

  test("a restart under load fails nothing but commits that were under way, and loses and repeats nothing", async () => {
    const store = await open({ url: server.url });
    const writers = 3;
    const acknowledged: string[] = [];
    const failures: unknown[] = [];
    const over = new AbortController();
    let reads = 0;
    const write = async (): Promise<void> => {
      while (!over.signal.aborted) {
        const row = rowOf(next++);
        try {
          await store.artifacts.insert(row, created);
          acknowledged.push(row.id);
        } catch (error) {
          failures.push(error);
        }
      }
    };
    const read = async (): Promise<void> => {
      while (!over.signal.aborted) {
        await store.artifacts.due({ status: "created", until: 0, limit: 1 });
        reads++;
      }
    };
    const working = Promise.all([...Array.from({ length: writers }, write), read(), read()]);
    await expect.poll(() => acknowledged.length).toBeGreaterThan(10);
    await server.restart();
    const before = [acknowledged.length, reads];
    await expect.poll(() => acknowledged.length, { timeout: 20_000 }).toBeGreaterThan(before[0]! + 10);
    over.abort();
    await working;
    expect(reads).toBeGreaterThan(before[1]!);
    // Whether a commit happened whose answer was cut off, nobody can know: that is said, and left to the caller.
    expect(failures.length).toBeLessThanOrEqual(writers);
    for (const failure of failures) expect(failure).toMatchObject({ code: "upstream_failed" });
    const stored = await ask<{ id: string }>(
      server.url,
      "select id from artifact where dock_id = 'dock_outage'",
    );
    const ids = new Set(stored.map(({ id }) => id));
    expect(acknowledged.filter((id) => !ids.has(id))).toEqual([]);
    const log = await store.artifacts.events("dock_outage", 0, 100_000);
    expect(log.map(({ seq }) => seq)).toEqual(log.map((_, i) => i + 1));
    expect(log.map(({ artifactId }) => artifactId).sort()).toEqual([...ids].sort());
  });

  test("while it is gone calls fail in bounded time with the code for it; when it is back they work", async () => {
    const store = await open({ url: server.url, patienceMs: 300 });
    const id = `art_${"0".repeat(5)}1`;
    await store.artifacts.get({ id });
    await server.kill();
    // Its sessions notice one after the other that the server is gone.
    const isGone = (): Promise<string> =>
      store.ready().then(
        () => "there",
        () => "gone",
      );
    await expect.poll(isGone, { timeout: 20_000 }).toBe("gone");
    const startedAt = performance.now();
    const outcomes = await Promise.allSettled([
      store.artifacts.get({ id }),
      store.artifacts.insert(rowOf(900_001), created),
      store.artifacts.due({ status: "created", until: 0, limit: 1 }),
      store.accounts.list("dock"),
    ]);
    expect(performance.now() - startedAt).toBeLessThan(10_000);
    for (const outcome of outcomes) {
      expect(outcome).toMatchObject({ status: "rejected", reason: { code: "upstream_failed" } });
    }
    await server.restart();
    await expect.poll(() => store.ready().then(() => "ready"), { timeout: 20_000 }).toBe("ready");
    expect((await store.artifacts.get({ id }))?.id).toBe(id);
  });

  test("while it hangs calls end with the same code, and closing ends, too", async () => {
    const store = await open({
      url: server.url,
      statementTimeoutMs: 1,
      connectTimeoutMs: 500,
      patienceMs: 0,
    });
    await store.ready().catch(() => {});
    const [pid] = server.pids as [number];
    const children = await ask<{ pid: number }>(
      server.url,
      "select pid from pg_stat_activity where application_name = 'docyard'",
    );
    const all = [pid, ...children.map((child) => child.pid)];
    for (const one of all) process.kill(one, "SIGSTOP");
    try {
      await expect(store.artifacts.due({ status: "created", until: 0, limit: 1 })).rejects.toMatchObject({
        code: "upstream_failed",
      });
      await expect(store.dump()[Symbol.asyncIterator]().next()).rejects.toMatchObject({
        code: "upstream_failed",
      });
      await store.close();
    } finally {
      for (const one of all) process.kill(one, "SIGCONT");
    }
  });

  test("a statement that runs too long is ended by the server, and worth another try", async () => {
    const store = await open({ url: server.url, statementTimeoutMs: 200 });
    const blocker = new Client({ connectionString: server.url });
    await blocker.connect();
    try {
      await blocker.query("begin; lock table artifact in access exclusive mode");
      await expect(store.artifacts.due({ status: "created", until: 0, limit: 1 })).rejects.toMatchObject({
        code: "upstream_failed",
        message: "The database is too busy: try again",
      });
    } finally {
      await blocker.end();
    }
    expect(await store.artifacts.due({ status: "created", until: 0, limit: 1 })).toEqual([]);
  });

  test("who waits for a connection in vain is told so, and not that the server is away", async () => {
    const store = await open({ url: server.url, connectionsMax: 1, connectTimeoutMs: 200, patienceMs: 300 });
    const blocker = new Client({ connectionString: server.url });
    await blocker.connect();
    const due = () => store.artifacts.due({ status: "created", until: 0, limit: 1 });
    try {
      await blocker.query("begin; lock table artifact in access exclusive mode");
      const first = due();
      await expect(due()).rejects.toMatchObject({
        code: "upstream_failed",
        message: "No connection to the database came free in time: try again",
      });
      await blocker.query("rollback");
      expect(await first).toEqual([]);
    } finally {
      await blocker.end();
    }
  });

  test("a replica that hangs inside a transaction gives its locks back", async () => {
    const store = await open({ url: server.url });
    const writer = spawn(
      process.execPath,
      [...NODE_ARGS, join(import.meta.dirname, "postgres-writer.ts"), server.url, "dock_hung"],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    try {
      await once(writer.stdout, "data");
      // Stopped again and again until that is between two statements of a transaction.
      for (;;) {
        writer.kill("SIGSTOP");
        const open =
          "select 1 from pg_stat_activity where application_name = 'docyard' and state = 'idle in transaction'";
        if ((await ask(server.url, open)).length > 0) break;
        writer.kill("SIGCONT");
        await sleep(Math.random() * 10);
      }
      const row = plainArtifact(999_999, { dockId: "dock_hung" });
      await store.artifacts.insert(row, created);
      expect(await store.artifacts.get({ id: row.id })).toEqual(row);
    } finally {
      writer.kill("SIGKILL");
    }
  });
});
