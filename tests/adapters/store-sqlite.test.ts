/**
 * What the SQLite store promises beyond the ports: durable commits, several processes on one file, clear errors,
 * migrations. The contracts are in store-conformance.test.ts, plans in store-plans.test.ts, groups in store-group.test.ts.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFile, mkdir, open, readdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { migrate, sqliteStore } from "@docyard/adapters/store/sqlite";
import { described, openSqlite } from "../../packages/adapters/src/store/sqlite-open.ts";
import { probeSqliteFile } from "@docyard/adapters/store/sqlite-probe";
import type { FindQuery, Store } from "@docyard/core";
import SqliteDatabase from "better-sqlite3";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { client } from "../../packages/adapters/src/conformance/account-records.ts";
import { plainArtifact } from "../arbitraries.ts";
import { NODE_ARGS } from "../sources.ts";
import type { Folder } from "./store-files.ts";
import { temporaryFolder } from "./store-files.ts";

let folder: Folder;
beforeEach(async () => {
  folder = await temporaryFolder();
});
afterEach(() => folder.remove());

const created = { type: "artifact.created", at: 1, by: null } as const;
const completed: FindQuery = {
  dockId: "dock_a",
  face: "machine",
  statuses: ["upload_completed"],
  start: { offset: 0 },
  limit: 1_000,
};

const messageOf = (attempt: Promise<unknown>): Promise<string> =>
  attempt.then(
    () => "no error",
    (error: unknown) => (error instanceof Error ? error.message : String(error)),
  );

describe("the open connection", () => {
  test("commits are on the disk before they are acknowledged: WAL and synchronous = FULL, on every open", async () => {
    for (const _ of [1, 2]) {
      const { db } = await openSqlite({ file: folder.file });
      expect(db.pragma("journal_mode", { simple: true })).toBe("wal");
      expect(db.pragma("synchronous", { simple: true })).toBe(2);
      expect(db.pragma("foreign_keys", { simple: true })).toBe(1);
      db.close();
    }
  });

  test("a new file can be read by its owner only, and so can its log", async () => {
    const store = await sqliteStore({ file: folder.file });
    await store.artifacts.insert(plainArtifact(1), created);
    for (const suffix of ["", "-wal", "-shm"]) {
      expect((await stat(`${folder.file}${suffix}`)).mode & 0o077).toBe(0);
    }
    await store.close();
  });
});

describe("errors name the file and say what to do", () => {
  const cases: [name: string, prepare: () => Promise<string> | string, message: RegExp][] = [
    [
      "a folder that is missing",
      () => join(folder.path, "missing", "docyard.db"),
      /does not exist: create it/,
    ],
    ["a folder instead of a file", () => folder.path, /it is a folder: name a file in it/],
    [
      "a file that is no database",
      async () => {
        await writeFile(
          folder.file,
          "not a database, but long enough to have a header of one hundred bytes ".repeat(9),
        );
        return folder.file;
      },
      /not a SQLite database: name another file/,
    ],
    [
      "another program's database",
      () => {
        new SqliteDatabase(folder.file).exec("create table theirs (x)").close();
        return folder.file;
      },
      /a SQLite database of another program/,
    ],
    [
      "a newer schema",
      async () => {
        await migrate({ file: folder.file });
        new SqliteDatabase(folder.file).exec("insert into migration values (7, 'later', 0)").close();
        return folder.file;
      },
      /^database schema 7 is newer than this docyard \(knows 5\): upgrade docyard$/,
    ],
  ];

  test.each(cases)("%s", async (_, prepare, message) => {
    const file = await prepare();
    for (const open of [sqliteStore, migrate]) {
      const text = await messageOf(open({ file }));
      expect(text).toMatch(message);
      expect(text).not.toContain("\n");
    }
  });

  test("a file that cannot be made where it should be", async () => {
    await mkdir(`${folder.file}-wal`);
    expect(await messageOf(sqliteStore({ file: folder.file }))).toMatch(
      /cannot use the database .*docyard\.db: /,
    );
  });

  test("a file that another process keeps locked, while opening", async () => {
    const other = new SqliteDatabase(folder.file);
    other.exec("begin exclusive");
    const text = await messageOf(sqliteStore({ file: folder.file, busyTimeoutMs: 120 }));
    expect(text).toMatch(/another process keeps it locked: stop that process/);
    other.exec("rollback");
    other.close();
    await (await sqliteStore({ file: folder.file })).close();
  });

  test.each([
    // What SQLite says of a disk that is full already, when the index of the log is made anew.
    ["SQLITE_IOERR_SHMSIZE", "the disk is full: make room"],
    ["SQLITE_IOERR_READ", "the disk reports an input or output error: check it"],
  ])("%s", (code, reason) => {
    const error = Object.assign(new Error("disk I/O error"), { code });
    expect(described(error, "a.db")).toMatchObject({ message: `cannot use the database a.db: ${reason}` });
  });

  test("a newer schema that appears while the store is open makes it unready", async () => {
    const store = await sqliteStore({ file: folder.file });
    await store.ready();
    new SqliteDatabase(folder.file).exec("insert into migration values (7, 'later', 0)").close();
    expect(await messageOf(store.ready())).toMatch(/upgrade docyard/);
    await store.close();
  });
});

describe("a disk without room", () => {
  test("refuses what would be written in words for the client, keeps all it has, and takes more when there is room", async () => {
    const store = await sqliteStore({ file: folder.file });
    const limit = vi.spyOn(SqliteDatabase.prototype, "pragma");
    const bounded = await sqliteStore({ file: folder.file });
    // The bound is a connection's own: this is the one that the store has just set up.
    const connection = limit.mock.contexts.at(-1) as SqliteDatabase.Database;
    limit.mockRestore();
    connection.pragma(`max_page_count = ${Number(connection.pragma("page_count", { simple: true })) + 20}`);
    const kept: string[] = [];
    const refused: unknown[] = [];
    for (let n = 0; refused.length < 3; n += 16) {
      await Promise.all(
        Array.from({ length: 16 }, async (_, i) => {
          const artifact = plainArtifact(n + i);
          await bounded.artifacts.insert(artifact, created).then(
            () => kept.push(artifact.id),
            (error: unknown) => refused.push(error),
          );
        }),
      );
    }
    expect(refused).toEqual(
      refused.map(() =>
        expect.objectContaining({ code: "no_space", message: expect.stringMatching(/no space/) }),
      ),
    );
    expect(kept.length).toBeGreaterThan(0);
    const rows = await store.artifacts.walk("", 1_000);
    expect(rows.map(({ id }) => id).sort()).toEqual(kept.sort());
    expect(await bounded.artifacts.events("dock_a", 0, 1_000)).toHaveLength(kept.length);
    connection.pragma("max_page_count = 1000000");
    await bounded.artifacts.insert(plainArtifact(999), created);
    for (const one of [store, bounded]) await one.close();
  });
});

describe("migrations", () => {
  test("a new file comes to the newest schema, and doing it again changes nothing", async () => {
    expect(await migrate({ file: folder.file })).toEqual({ from: 0, to: 5 });
    const store = await sqliteStore({ file: folder.file });
    await store.artifacts.insert(plainArtifact(1), created);
    expect(await migrate({ file: folder.file })).toEqual({ from: 5, to: 5 });
    expect((await store.artifacts.find(completed)).total).toBe(1);
    await store.close();
  });

  test("of several that start at once, one migrates and all go on", async () => {
    const stores = await Promise.all([1, 2, 3, 4].map(() => sqliteStore({ file: folder.file })));
    await Promise.all(stores.map((store, i) => store.artifacts.insert(plainArtifact(i), created)));
    expect((await stores[0]!.artifacts.find(completed)).total).toBe(4);
    for (const store of stores) await store.close();
  });

  test("a step that fails leaves nothing behind", async () => {
    const db = new SqliteDatabase(folder.file);
    db.exec("create table migration (number integer primary key, name text, applied_at integer)");
    // In the way of the step's last table.
    db.exec("create table account (x)");
    expect(await messageOf(migrate({ file: folder.file }))).toMatch(/already exists/);
    const tables = db
      .prepare("select name from sqlite_schema where type = 'table' order by name")
      .pluck()
      .all();
    expect(tables).toEqual(["account", "migration"]);
    db.close();
  });
});

describe("several users of one file", () => {
  const open = (): Promise<Store> => sqliteStore({ file: folder.file });

  test("what one writes the other sees, and totals remembered by one hold only while nothing changes", async () => {
    const [one, other] = [await open(), await open()];
    const rows = Array.from({ length: 40 }, (_, i) =>
      plainArtifact(i, {
        metadata: { a: 1, b: i % 2, list: [{ x: 1, y: i % 2 }] },
        filename: `scan ${i}.pdf`,
      }),
    );
    const questions: Partial<FindQuery>[] = [
      {},
      { filter: { a: 1, b: 1 } },
      { filter: { list: [{ x: 1, y: 1 }] } },
      { search: "scan" },
      { search: "a" },
      { createdAfter: 0 },
      { filter: { a: 1 }, createdAfter: 0, search: "pdf" },
    ];
    for (const row of rows) {
      await one.artifacts.insert(row, created);
      if (row.size! % 3 === 0) await other.artifacts.update(row.id, 1, { status: "deleted" }, created);
      for (const over of questions) {
        const [a, b] = await Promise.all(
          [one, other].map((store) => store.artifacts.find({ ...completed, ...over })),
        );
        expect(a).toEqual(b);
        expect(a!.total).toBe(a!.rows.length);
      }
    }
    await one.close();
    await other.close();
  });

  test("an account that another has changed is found as it is now, and nobody can change what is found", async () => {
    const [one, other] = [await open(), await open()];
    await one.accounts.insert([client(1)]);
    for (const isActive of [false, true, true, false]) {
      await other.accounts.update("client", "mc_1", { isActive });
      for (const by of [{ id: "mc_1" }, { handle: "dyc_1" }]) {
        const found = await one.accounts.find("client", by);
        expect(found).toEqual(client(1, { isActive }));
        expect(() => ((found!.scopes as unknown[])[0] = "all")).toThrow(TypeError);
      }
    }
    await one.close();
    await other.close();
  });

  test("connections that write at once lose nothing and fail nothing", async () => {
    const stores = await Promise.all([1, 2, 3].map(open));
    await Promise.all(
      stores.flatMap((store, s) =>
        Array.from({ length: 100 }, (_, i) => store.artifacts.insert(plainArtifact(s * 100 + i), created)),
      ),
    );
    const events = await stores[0]!.artifacts.events("dock_a", 0, 1_000);
    expect(events.map(({ seq }) => seq)).toEqual(Array.from({ length: 300 }, (_, i) => i + 1));
    for (const store of stores) expect((await store.artifacts.find(completed)).total).toBe(300);
    for (const store of stores) await store.close();
  });

  test("while another holds the write lock reads go on, and writes follow when it is free", async () => {
    const store = await open();
    await store.artifacts.insert(plainArtifact(1), created);
    const other = new SqliteDatabase(folder.file);
    other.exec("begin immediate");
    let isWritten = false;
    const write = store.artifacts.insert(plainArtifact(2), created).then(() => (isWritten = true));
    for (let i = 0; i < 20; i++) {
      expect((await store.artifacts.find(completed)).total).toBe(1);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    expect(isWritten).toBe(false);
    other.exec("commit");
    other.close();
    await write;
    expect((await store.artifacts.find(completed)).total).toBe(2);
    await store.close();
  });

  test("a lock that is never given up is reported, and the store works once it is gone", async () => {
    const store = await sqliteStore({ file: folder.file, busyTimeoutMs: 100 });
    const other = new SqliteDatabase(folder.file);
    other.exec("begin immediate");
    const attempts = [store.artifacts.insert(plainArtifact(1), created), store.ready()];
    for (const attempt of attempts)
      expect(await messageOf(attempt)).toMatch(/another process keeps it locked/);
    other.exec("rollback");
    other.close();
    await store.artifacts.insert(plainArtifact(1), created);
    await store.close();
  });
});

describe("a dump", () => {
  /** Whether the log can be emptied: nobody reads an earlier moment. */
  const isLetGo = (): boolean => {
    const other = new SqliteDatabase(folder.file);
    other.exec(
      "insert into account values ('organization', 'x' || hex(randomblob(8)), 'x' || hex(randomblob(8)), null, 0, '{}')",
    );
    const [{ busy }] = other.pragma("wal_checkpoint(truncate)") as [{ busy: number }];
    other.close();
    return busy === 0;
  };
  const fill = async (store: Store): Promise<void> => {
    const rows = Array.from({ length: 600 }, (_, i) => plainArtifact(i));
    await store.load(rows.map((artifact) => ({ kind: "artifact", artifact }) as const));
  };

  test("is let go of when its reader stops, its signal aborts or its store closes", async () => {
    const store = await sqliteStore({ file: folder.file });
    await fill(store);
    const held = store.dump()[Symbol.asyncIterator]();
    await held.next();
    expect(isLetGo()).toBe(false);
    await held.return?.();
    expect(isLetGo()).toBe(true);

    const controller = new AbortController();
    const aborted = store.dump({ signal: controller.signal })[Symbol.asyncIterator]();
    await aborted.next();
    expect(isLetGo()).toBe(false);
    controller.abort(new Error("enough"));
    // Though nobody asks it for more.
    expect(isLetGo()).toBe(true);
    await expect(aborted.next()).rejects.toThrow("enough");

    const closed = store.dump()[Symbol.asyncIterator]();
    await closed.next();
    await store.close();
    await expect(closed.next()).rejects.toThrow("the store is closed");
    expect(await readdir(folder.path)).toEqual(["docyard.db"]);
  });

  test("gives others a turn between its pages", async () => {
    const store = await sqliteStore({ file: folder.file });
    await fill(store);
    let turns = 0;
    let isOver = false;
    const turn = (): void => {
      turns++;
      if (!isOver) setImmediate(turn);
    };
    setImmediate(turn);
    let batches = 0;
    for await (const _ of store.dump()) batches++;
    isOver = true;
    expect(batches).toBeGreaterThan(2);
    expect(turns).toBeGreaterThanOrEqual(batches);
    await store.close();
  });
});

/** A writer process: the numbers it has acknowledged, and its end. */
function startWriter(
  first: number,
  count: number,
  thread: "thread" | "no thread",
): { acknowledged: number[]; kill(): void; ended: Promise<unknown> } {
  const script = fileURLToPath(new URL("./store-writer.ts", import.meta.url));
  const child = spawn(
    process.execPath,
    [...NODE_ARGS, script, folder.file, String(first), String(count), thread],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  const acknowledged: number[] = [];
  createInterface({ input: child.stdout }).on("line", (line) => acknowledged.push(Number(line)));
  return { acknowledged, kill: () => child.kill("SIGKILL"), ended: once(child, "close") };
}

describe("several processes", () => {
  test("three that write at once, this one among them, lose nothing and fail nothing", async () => {
    const store = await sqliteStore({ file: folder.file, busyTimeoutMs: 30_000 });
    const writers = [startWriter(1_000, 150, "thread"), startWriter(2_000, 150, "no thread")];
    for (let i = 0; i < 150; i++) await store.artifacts.insert(plainArtifact(i), created);
    await Promise.all(writers.map(({ ended }) => ended));
    for (const { acknowledged } of writers) expect(acknowledged).toHaveLength(150);
    expect((await store.artifacts.find(completed)).total).toBe(450);
    const events = await store.artifacts.events("dock_a", 0, 1_000);
    expect(events.map(({ seq }) => seq)).toEqual(Array.from({ length: 750 }, (_, i) => i + 1));
    await store.close();
  });

  test("a page that one has read is not what another has made of it since", async () => {
    const [one, other] = [await sqliteStore({ file: folder.file }), await sqliteStore({ file: folder.file })];
    await one.artifacts.insert(plainArtifact(1), created);
    const { id, version } = plainArtifact(1);
    expect((await one.artifacts.find(completed)).rows).toMatchObject([{ id, version }]);
    await other.artifacts.update(id, version, { dueAt: 7 }, null);
    expect((await one.artifacts.find(completed)).rows).toMatchObject([{ id, version: version + 1 }]);
    await other.artifacts.update(id, version + 1, { status: "deleted" }, created);
    expect(await one.artifacts.find(completed)).toEqual({ rows: [], total: 0, more: false });
    await one.close();
    await other.close();
  });

  test.each(["no thread", "thread"] as const)(
    "what a process has acknowledged before SIGKILL is there, whole, with its events and in every index (%s)",
    async (thread) => {
      const writer = startWriter(0, 100_000, thread);
      while (writer.acknowledged.length < 200) await new Promise((resolve) => setTimeout(resolve, 5));
      writer.kill();
      await writer.ended;
      const store = await sqliteStore({ file: folder.file });
      const events = await store.artifacts.events("dock_a", 0, 1_000_000);
      expect(events.map(({ seq }) => seq)).toEqual(events.map((_, i) => i + 1));
      for (const number of writer.acknowledged) {
        const { id } = plainArtifact(number);
        expect(await store.artifacts.get({ id })).toMatchObject({ status: "upload_completed", version: 2 });
        const byMetadata = await store.artifacts.find({ ...completed, filter: { number } });
        expect([byMetadata.total, byMetadata.rows[0]?.id]).toEqual([1, id]);
      }
      const done = events.filter(({ type }) => type === "artifact.completed").length;
      expect(done).toBeGreaterThanOrEqual(writer.acknowledged.length);
      for (const over of [{}, { filter: { writer: "0" } }, { search: "file-" }, { createdAfter: 0 }]) {
        expect((await store.artifacts.find({ ...completed, ...over })).total).toBe(done);
      }
      await store.close();
    },
  );
});

describe("a damaged file", () => {
  const root = (file: string, name: string): number => {
    const db = new SqliteDatabase(file, { readonly: true });
    try {
      return db
        .prepare<[string], { rootpage: number }>("select rootpage from sqlite_schema where name = ?")
        .get(name)!.rootpage;
    } finally {
      db.close();
    }
  };

  /** A page of zeros, as a disk may give one back. */
  const zero = async (file: string, page: number): Promise<void> => {
    const handle = await open(file, "r+");
    try {
      await handle.write(Buffer.alloc(4_096), 0, 4_096, (page - 1) * 4_096);
    } finally {
      await handle.close();
    }
  };

  test("is found out by the probe, whichever table or index it is in; a whole one is whole", async () => {
    const file = join(folder.path, "whole.db");
    const store = await sqliteStore({ file });
    await store.artifacts.insert(plainArtifact(1), created);
    // Beside an open store, too, and before its log is in the file.
    expect(probeSqliteFile({ file }).map(({ check, outcome }) => [check, outcome])).toEqual([
      ["schema", "ok"],
      ["contents", "ok"],
    ]);
    await store.close();
    const db = new SqliteDatabase(file, { readonly: true });
    const pages = db
      .prepare<[], { rootpage: number }>("select rootpage from sqlite_schema where rootpage > 0")
      .all();
    db.close();
    expect(pages.length).toBeGreaterThan(5);
    for (const [n, { rootpage }] of pages.entries()) {
      const copy = join(folder.path, `${n}.db`);
      await copyFile(file, copy);
      await zero(copy, rootpage);
      expect(probeSqliteFile({ file: copy })).toMatchObject([
        {
          outcome: "failing",
          detail: expect.stringContaining("damaged"),
          fix: expect.stringContaining("backup"),
        },
      ]);
    }
  });

  test("is told by whoever reads it, with what to do", async () => {
    const file = join(folder.path, "read.db");
    const before = await sqliteStore({ file });
    const artifact = plainArtifact(1);
    await before.artifacts.insert(artifact, created);
    await before.close();
    await zero(file, root(file, "artifact"));
    const store = await sqliteStore({ file });
    try {
      const told = `cannot use the database ${file}: the database is damaged: restore it from a backup`;
      expect(await messageOf(store.artifacts.get({ id: artifact.id }))).toBe(told);
      expect(await messageOf(store.artifacts.find(completed))).toBe(told);
      const dump = async (): Promise<void> => {
        for await (const _ of store.dump());
      };
      expect(await messageOf(dump())).toBe(told);
    } finally {
      await store.close();
    }
  });

  test("of a later version is one to upgrade for", async () => {
    const file = join(folder.path, "later.db");
    await migrate({ file });
    const db = new SqliteDatabase(file);
    db.exec("insert into migration values (9999, 'later', 0)");
    db.close();
    expect(probeSqliteFile({ file })).toContainEqual(
      expect.objectContaining({ check: "schema", outcome: "failing", fix: "upgrade docyard" }),
    );
  });
});
