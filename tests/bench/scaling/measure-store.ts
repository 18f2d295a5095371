/**
 * What an artifact costs a store: rows, bytes of tables and indexes, write-ahead log, and how fast writes go, in one
 * dock and in many. Bytes stay in memory here: they are `measure-fleet.ts`'s and `measure-server.ts`'s.
 */

import { createHash } from "node:crypto";
import { statSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { memoryBlobs } from "@docyard/adapters/blob/memory";
import { memoryLimit } from "@docyard/adapters/limit/memory";
import { memoryQueue } from "@docyard/adapters/queue/memory";
import { postgresStore } from "@docyard/adapters/store/postgres";
import { sqliteStore } from "@docyard/adapters/store/sqlite";
import type { BlobStore, Docyard, Principal, Store } from "@docyard/core";
import { createDocyard } from "@docyard/core";
import SqliteDatabase from "better-sqlite3";
import type { Database } from "./host.ts";
import type { StoreCost } from "./coefficients.ts";

/** Callers at once: enough to keep a database busy. */
const CALLERS = 32;
export const DOCKS = 64;
/** Artifacts whose log is measured: a log that is never cut back slows its database down. */
const WATCHED = 100;
const POLL_MS = 50;
const ORGANIZATION = "org_bench";
export const PRINCIPAL: Principal = {
  id: "mc_bench",
  organizationId: ORGANIZATION,
  dockId: null,
  scopes: ["artifacts:read", "artifacts:write"],
};

export interface StoreMeasured extends StoreCost {
  readonly artifacts: number;
  /** Log bytes where writes come together and share pages. */
  readonly walBytesTogether: { readonly create: number; readonly complete: number };
  /** Per second, by whether all go to one dock. */
  readonly manyDocks: { readonly create: number; readonly complete: number };
  readonly oneDock: { readonly create: number; readonly complete: number };
}

interface Subject {
  readonly store: Store;
  /** Bytes of write-ahead log ever written. */
  wal(): Promise<number>;
  bytes(): Promise<Record<string, number>>;
  /** Lets the database do what it does at leisure. */
  settle(): Promise<void>;
  /** Between these two `wal` counts everything; else it may forget. */
  watch(): void;
  unwatch(): void;
}

export async function addDocks(store: Store): Promise<void> {
  const createdAt = Date.now();
  await store.accounts.insert([
    { kind: "organization", id: ORGANIZATION, name: "Bench", createdAt },
    ...Array.from({ length: DOCKS }, (_, i) => ({
      kind: "dock" as const,
      id: `dock_bench_${i}`,
      organizationId: ORGANIZATION,
      name: `Bench ${i}`,
      createdAt,
    })),
  ]);
}

/** What a scanner of a hospital might say of a document: four terms, one of them its patient's. */
export function described(i: number): { filename: string; contentType: string; metadata: object } {
  return {
    filename: `scan ${i} of ward ${i % 40}.pdf`,
    contentType: "application/pdf",
    metadata: {
      patientId: `p${i % 5_000}`,
      type: i % 3 === 0 ? "letter" : "x-ray",
      pages: (i % 20) + 1,
      final: true,
    },
  };
}

/** Calls `work` for 0 … count - 1, so many at a time; resolves to seconds. */
export async function each(
  count: number,
  callers: number,
  work: (i: number) => Promise<void>,
): Promise<number> {
  const from = performance.now();
  let next = 0;
  const caller = async (): Promise<void> => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: callers }, caller));
  return (performance.now() - from) / 1_000;
}

async function measure(subject: Subject, artifacts: number): Promise<Omit<StoreMeasured, "rows">> {
  const { store } = subject;
  await addDocks(store);
  const blobs = memoryBlobs({ baseUrl: "http://bench.test", secret: Buffer.alloc(32, 1) });
  const limit = memoryLimit();
  const docyard = createDocyard({ store, blobs, queue: memoryQueue(), limit });
  let made = 0;
  /** Creates and completes so many; rates per second and bytes of log. */
  const round = async (count: number, docks: number, callers: number) => {
    const uploads: { dock: string; uploadId: string }[] = [];
    const before = await subject.wal();
    const creating = await each(count, callers, async (i) => {
      const dock = `dock_bench_${i % docks}`;
      uploads.push({ dock, uploadId: await createAndStage(docyard, blobs, dock, made++) });
    });
    const between = await subject.wal();
    const completing = await each(count, callers, async (i) => {
      const { dock, uploadId } = uploads[i]!;
      await (await docyard.open(PRINCIPAL, dock, "artifacts:write")).complete({ uploadId });
    });
    const after = await subject.wal();
    return {
      rate: { create: count / creating, complete: count / completing },
      wal: { create: (between - before) / count, complete: (after - between) / count },
    };
  };

  await round(Math.ceil(artifacts / 10), DOCKS, CALLERS);
  await subject.settle();
  const [bytesBefore, madeBefore] = [await subject.bytes(), made];
  const many = await round(Math.ceil(artifacts / 2), DOCKS, CALLERS);
  const one = await round(Math.ceil(artifacts / 4), 1, CALLERS);
  subject.watch();
  const together = await round(WATCHED, DOCKS, CALLERS);
  const alone = await round(WATCHED, DOCKS, 1);
  subject.unwatch();
  await subject.settle();
  const grown = Object.entries(await subject.bytes()).map(
    ([name, bytes]) => [name, (bytes - (bytesBefore[name] ?? 0)) / (made - madeBefore)] as const,
  );
  return {
    artifacts: made,
    bytes: Object.fromEntries(grown.filter(([, bytes]) => bytes >= 1)),
    walBytes: alone.wal,
    walBytesTogether: together.wal,
    manyDocks: many.rate,
    oneDock: one.rate,
  };
}

async function createAndStage(
  docyard: Docyard,
  blobs: BlobStore,
  dockId: string,
  i: number,
): Promise<string> {
  const dock = await docyard.open(PRINCIPAL, dockId, "artifacts:write");
  const bytes = Buffer.from(createHash("sha256").update(String(i)).digest("hex"));
  const created = await dock.create(described(i) as Parameters<typeof dock.create>[0]);
  const { stagingKey, uploadId } = created.artifact;
  await blobs.put(stagingKey!, once(bytes), { sizeMax: bytes.length });
  return uploadId!;
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array, void, void> {
  yield bytes;
}

export async function measurePostgres(database: Database, artifacts: number): Promise<StoreMeasured> {
  const store = await postgresStore({ url: database.url });
  const named = async (text: string): Promise<Record<string, number>> => {
    const rows = await database.query<{ name: string; value: string }>(text);
    return Object.fromEntries(rows.map(({ name, value }) => [name, Number(value)]));
  };
  try {
    const measured = await measure(
      {
        store,
        wal: async () =>
          (await named("select 'wal' as name, pg_current_wal_insert_lsn() - '0/0' as value"))["wal"]!,
        bytes: () =>
          named(`select relname as name, pg_relation_size(oid) + case when reltoastrelid = 0 then 0 else
            pg_total_relation_size(reltoastrelid) end as value from pg_class
            where relkind in ('r', 'i') and relnamespace = 'public'::regnamespace`),
        async settle() {
          await database.query("vacuum analyze");
        },
        watch() {},
        unwatch() {},
      },
      artifacts,
    );
    // A session tells what it has written when it ends, at the latest.
    await store.close();
    while (
      (await database.query("select 1 from pg_stat_activity where application_name = 'docyard'")).length > 0
    )
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    const written = await named(
      "select relname as name, n_tup_ins + n_tup_upd as value from pg_stat_user_tables where relname not in ('account', 'migration') and n_tup_ins > 0",
    );
    const rows = Object.entries(written).map(([name, count]) => [name, count / measured.artifacts] as const);
    return { ...measured, rows: Object.fromEntries(rows) };
  } finally {
    await store.close();
  }
}

/** Without rows: both databases run the same statements, and SQLite does not count what they write. */
export async function measureSqlite(artifacts: number): Promise<Omit<StoreMeasured, "rows">> {
  const folder = await mkdtemp(join(tmpdir(), "docyard-scaling-"));
  const file = join(folder, "docyard.db");
  const store = await sqliteStore({ file });
  const beside = new SqliteDatabase(file);
  const named = (text: string): Record<string, number> =>
    Object.fromEntries(
      (beside.prepare(text).all() as { name: string; value: number }[]).map((r) => [r.name, r.value]),
    );
  try {
    return await measure(
      {
        store,
        wal: async () => statSync(`${file}-wal`).size,
        bytes: async () =>
          named("select name, sum(pgsize) as value from dbstat where aggregate = false group by name"),
        async settle() {
          beside.pragma("wal_checkpoint(truncate)");
        },
        // While someone reads an old state the log cannot begin anew, and its length is all that was written.
        watch() {
          beside.pragma("wal_checkpoint(truncate)");
          beside.exec("begin");
          beside.prepare("select count(*) from migration").get();
        },
        unwatch: () => void beside.exec("commit"),
      },
      artifacts,
    );
  } finally {
    beside.close();
    await store.close();
    await rm(folder, { recursive: true });
  }
}
