/**
 * The conformance suite of `Store.dump` and `Store.load`: every sentence of their contract as a named case.
 * That a dump loaded elsewhere answers every question alike is told by the laws in docyard's own tests, too.
 */

import type { AccountRecord, Artifact, ArtifactEvent, Store, StoreRecord } from "@docyard/core";
import { ARTIFACT_STATUSES, handleOf, NO_USAGE, parseJson, VISIBLE_STATUSES } from "@docyard/core";
import { describe, expect } from "vitest";
import { client, dock, key, one, organization, serverKey } from "./account-records.ts";
import type { OpenStore, StoreCase } from "./store-case.ts";
import {
  completed,
  digest,
  DOCK,
  event,
  eventsOf,
  expectTaken,
  expectUsagesRight,
  FULL,
  HOSTILE_METADATA,
  HOSTILE_NAMES,
  insertAll,
  query,
  row,
  runCases,
} from "./store-case.ts";

export type { OpenStore } from "./store-case.ts";

/** Runs the suite; `open` is called once or twice per case and must give an empty store each time. */
export function testStoreRecords(name: string, open: () => Promise<OpenStore>): void {
  describe(`${name} keeps the contract of dump and load`, () => {
    runCases([...DUMP_CASES, ...LOAD_CASES, ...roundTripCases(open)], open);
  });
}

/** The most records in one batch of a dump. */
const BATCH_MAX = 1_000;
const WRITERS = 16;
const writers = Array.from({ length: WRITERS }, (_, i) => i);

const accountRecord = (account: AccountRecord): StoreRecord => ({ kind: "account", account });
const artifactRecord = (artifact: Artifact): StoreRecord => ({ kind: "artifact", artifact });
const eventRecord = (seq: number, over: Partial<ArtifactEvent> = {}): StoreRecord => ({
  kind: "event",
  event: { ...event(), data: {}, dockId: DOCK, artifactId: row(1).id, seq, ...over },
});

/** Rows and an event for each; with more than half of what a batch may hold, there are several. */
function many(count: number): StoreRecord[] {
  const numbers = Array.from({ length: count }, (_, i) => i);
  return [
    ...numbers.map((i) => artifactRecord(completed(i, { dockId: `dock_${i % 3}`, metadata: { a: i % 2 } }))),
    ...numbers.map((i) =>
      eventRecord(Math.floor(i / 3) + 1, { dockId: `dock_${i % 3}`, artifactId: row(i).id }),
    ),
  ];
}

export async function dumpOf(store: Store): Promise<StoreRecord[]> {
  const records: StoreRecord[] = [];
  for await (const batch of store.dump()) {
    expect(batch.length).toBeLessThanOrEqual(BATCH_MAX);
    records.push(...batch);
  }
  return records;
}

/** What orders a record among those of its kind. */
function keyOf(record: StoreRecord): readonly [string, number] {
  switch (record.kind) {
    case "account":
      return [`${record.account.kind} ${record.account.id}`, 0];
    case "artifact":
      return [record.artifact.id, 0];
    case "event":
      return [record.event.dockId, record.event.seq];
  }
}

function sorted(records: readonly StoreRecord[]): StoreRecord[] {
  const name = (record: StoreRecord): string => JSON.stringify([record.kind, ...keyOf(record)]);
  return [...records].sort((a, b) => (name(a) < name(b) ? -1 : 1));
}

function expectInOrder(records: readonly StoreRecord[]): void {
  const kinds = ["account", "artifact", "event"];
  const places = records.map(({ kind }) => kinds.indexOf(kind));
  expect(places).toEqual([...places].sort((a, b) => a - b));
  const ownersSeen = new Set<string>();
  for (const [i, record] of records.entries()) {
    if (record.kind === "account") {
      const { account } = record;
      if (account.kind === "organization") ownersSeen.add(account.id);
      else if (account.kind !== "serverKey") expect(ownersSeen).toContain(account.organizationId);
      continue;
    }
    const before = records[i - 1];
    if (before?.kind !== record.kind) continue;
    const [[a, m], [b, n]] = [keyOf(before), keyOf(record)];
    expect(a < b || (a === b && m < n)).toBe(true);
  }
}

/** Inserts a row; the number of its event. */
async function numberOf(store: Store, artifact: Artifact): Promise<number | undefined> {
  await store.artifacts.insert(artifact, event());
  return (await eventsOf(store, artifact.dockId)).at(-1)?.seq;
}

const reasonOf = (attempt: Promise<unknown>): Promise<unknown> =>
  attempt.then(
    () => "no error",
    (error: unknown) => error,
  );

/** All that a store can be asked about some records. */
export async function answersOf(store: Store, records: readonly StoreRecord[]): Promise<unknown> {
  const artifacts = records.filter((record) => record.kind === "artifact").map(({ artifact }) => artifact);
  const accounts = records.filter((record) => record.kind === "account").map(({ account }) => account);
  const events = records.filter((record) => record.kind === "event");
  const docks = [
    ...new Set([...artifacts.map(({ dockId }) => dockId), ...events.map(({ event: { dockId } }) => dockId)]),
  ].sort();
  const { artifacts: port } = store;
  const lists = docks.flatMap((dockId) =>
    (["machine", "studio"] as const).flatMap((face) => [
      query({ dockId, face, limit: 1_000 }),
      query({
        dockId,
        face,
        limit: 1_000,
        statuses: VISIBLE_STATUSES,
      }),
      ...artifacts
        .slice(0, 12)
        .flatMap(({ metadata, filename }) => [
          query({ dockId, face, filter: metadata }),
          query({ dockId, face, search: filename }),
        ]),
    ]),
  );
  return {
    walk: await port.walk("", 100_000),
    byId: await Promise.all(artifacts.map(({ id }) => port.get({ id }))),
    byUploadId: await Promise.all(artifacts.map(({ uploadId }) => port.get({ uploadId: uploadId ?? "" }))),
    found: await Promise.all(lists.map((list) => port.find(list))),
    byDigest: await Promise.all(
      artifacts.map(async ({ dockId, digest: content }) => {
        const holder = await port.findByDigest(dockId, content ?? "");
        // Of several that share it any will do.
        return holder?.sharesBlob === true ? "shared" : holder;
      }),
    ),
    inUse: await Promise.all(artifacts.map(({ blobKey }) => port.isBlobInUse(blobKey ?? ""))),
    due: await Promise.all(
      ARTIFACT_STATUSES.map(async (status) => {
        const due = await port.due({ status, until: Number.MAX_SAFE_INTEGER, limit: 100_000 });
        return due.map(({ id }) => id);
      }),
    ),
    usages: await Promise.all(docks.map((dockId) => port.usage(dockId))),
    events: await Promise.all(docks.map((dockId) => eventsOf(store, dockId))),
    accounts: await Promise.all(
      (["organization", "dock", "client", "key", "serverKey"] as const).map((kind) =>
        store.accounts.list(kind),
      ),
    ),
    handles: await Promise.all(
      accounts.map((account) => store.accounts.find(account.kind, { handle: handleOf(account) })),
    ),
  };
}

const DUMP_CASES: readonly StoreCase[] = [
  {
    name: "an empty store dumps nothing",
    async run({ store }) {
      expect(await dumpOf(store)).toEqual([]);
    },
  },
  {
    name: "a dump tells every record once, each kind in its order, and an organisation before what is its",
    async run({ store }) {
      const other = { organizationId: "org_0" };
      const accounts = [
        ...one,
        organization(0, { createdAt: 9_999 }),
        dock(0, { ...other, createdAt: 0 }),
        client(0, { ...other, createdAt: -5 }),
        key(0, other),
        serverKey(0, { revokedAt: 5 }),
      ];
      await store.accounts.insert(accounts);
      const rows = ARTIFACT_STATUSES.map((status, i) => row(9 - i, { status, dockId: `dock_${i % 2}` }));
      await insertAll(store, rows);
      await store.artifacts.update(rows[0]!.id, 1, { attempts: 1 }, event("artifact.started", 5));
      const records = await dumpOf(store);
      expectInOrder(records);
      const expected = [
        ...accounts.map(accountRecord),
        ...(await store.artifacts.walk("", 100)).map(artifactRecord),
        ...[...(await eventsOf(store, "dock_0")), ...(await eventsOf(store, "dock_1"))].map(
          (told): StoreRecord => ({ kind: "event", event: told }),
        ),
      ];
      expect(records).toHaveLength(expected.length);
      expect(records).toEqual(expect.arrayContaining(expected));
      expect(records.slice(accounts.length)).toEqual(expected.slice(accounts.length));
    },
  },
  {
    name: "a dump of many records comes in batches, in order, whole",
    async run({ store }) {
      const records = [
        accountRecord(organization(1)),
        ...Array.from({ length: 301 }, (_, i) => accountRecord(dock(i, { createdAt: i % 7 }))),
        ...many(1_001),
      ];
      expect(await store.load(records)).toBe(records.length);
      const dumped = await dumpOf(store);
      expectInOrder(dumped);
      expect(dumped).toHaveLength(records.length);
      expect(sorted(dumped)).toEqual(sorted(records));
    },
  },
  {
    name: "a dump is of one moment while 16 writers go on",
    async run({ store }) {
      await store.load(many(501));
      const progress = { isOver: false, written: 0 };
      const write = async (writer: number): Promise<void> => {
        for (let i = 0; !progress.isOver; i++) {
          const artifact = row(10_000 + writer * 10_000 + i, { dockId: `dock_${i % 3}`, size: 1 });
          await store.artifacts.insert(artifact, event());
          await store.artifacts.update(artifact.id, 1, { status: "deleted" }, event("artifact.deleted"));
          progress.written++;
          // A store may answer within one turn: the dump wants its own.
          await new Promise((resolve) => setImmediate(resolve));
        }
      };
      const writing = Promise.all(writers.map(write));
      const records: StoreRecord[] = [];
      try {
        for await (const batch of store.dump()) {
          records.push(...batch);
          // The next batch comes after writes that must not be in it.
          const enough = progress.written + WRITERS;
          while (progress.written < enough) await new Promise((resolve) => setImmediate(resolve));
        }
      } finally {
        progress.isOver = true;
        await writing;
      }
      expectInOrder(records);
      const told = new Map<string, number>();
      const seqs = new Map<string, number[]>();
      let versions = 0;
      for (const record of records) {
        if (record.kind === "artifact") versions += record.artifact.version;
        if (record.kind !== "event") continue;
        const { artifactId, dockId, seq } = record.event;
        told.set(artifactId, (told.get(artifactId) ?? 0) + 1);
        seqs.set(dockId, [...(seqs.get(dockId) ?? []), seq]);
      }
      // Each version has its event, and each event its row: no batch is of another moment.
      for (const record of records) {
        if (record.kind === "artifact") expect(told.get(record.artifact.id)).toBe(record.artifact.version);
      }
      expect([...told.values()].reduce((sum, n) => sum + n, 0)).toBe(versions);
      for (const of of seqs.values()) expect(of).toEqual(of.map((_, i) => i + 1));
      const after = await dumpOf(store);
      expect(after.length).toBeGreaterThan(records.length);
    },
  },
  {
    name: "a dump that is not read to its end is released, and the store goes on",
    async run({ store }) {
      await store.load(many(501));
      for await (const batch of store.dump()) {
        expect(batch.length).toBeGreaterThan(0);
        break;
      }
      await expect(
        (async () => {
          for await (const _ of store.dump()) throw new Error("the reader's own");
        })(),
      ).rejects.toThrow("the reader's own");
      await store.artifacts.insert(row(9_999), event());
      expect(await dumpOf(store)).toHaveLength(1_004);
    },
  },
  {
    name: "a dump that is aborted rejects with the signal's reason and is released",
    async run({ store }) {
      await store.load(many(501));
      const reason = new Error("enough");
      const early = AbortSignal.abort(reason);
      const before = store.dump({ signal: early })[Symbol.asyncIterator]();
      expect(await reasonOf(before.next())).toBe(reason);

      const controller = new AbortController();
      const dump = store.dump({ signal: controller.signal })[Symbol.asyncIterator]();
      expect((await dump.next()).done).toBe(false);
      controller.abort(reason);
      expect(await reasonOf(dump.next())).toBe(reason);
      expect(await dump.next()).toEqual({ done: true, value: undefined });
      await store.artifacts.insert(row(9_999), event());

      // While a batch is under way.
      const racing = new AbortController();
      const raced = store.dump({ signal: racing.signal })[Symbol.asyncIterator]();
      await raced.next();
      const next = reasonOf(raced.next());
      racing.abort(reason);
      expect([reason, "no error"]).toContain(await next);
      await raced.return?.();
    },
  },
  {
    name: "several dumps at once each tell everything",
    async run({ store }) {
      await store.load(many(300));
      const dumps = await Promise.all([dumpOf(store), dumpOf(store), dumpOf(store)]);
      for (const dump of dumps) expect(dump).toEqual(dumps[0]);
      expect(dumps[0]).toHaveLength(600);
    },
  },
  {
    name: "close while a dump is being read ends both: the dump rejects, or has all it needs",
    closes: true,
    async run({ store }) {
      await store.load(many(501));
      const dump = store.dump()[Symbol.asyncIterator]();
      await dump.next();
      const next = reasonOf(dump.next());
      await store.close();
      await next;
      await dump.return?.();
      expect(await reasonOf(dumpOf(store))).toBeInstanceOf(Error);
      expect(await reasonOf(store.load([]))).toBeInstanceOf(Error);
    },
  },
];

const LOAD_CASES: readonly StoreCase[] = [
  {
    name: "load of nothing adds nothing",
    async run({ store }) {
      expect(await store.load([])).toBe(0);
    },
  },
  {
    name: "load adds records of every kind as they are, and says how many",
    async run({ store }) {
      const odd = HOSTILE_NAMES.map((filename, i) => completed(100 + i, { filename }));
      const documents = HOSTILE_METADATA.map((text, i) =>
        completed(200 + i, { metadata: parseJson(text) as Artifact["metadata"] }),
      );
      const data = parseJson(HOSTILE_METADATA[3]!) as ArtifactEvent["data"];
      const records = [
        ...one.map(accountRecord),
        ...[FULL, ...odd, ...documents].map(artifactRecord),
        eventRecord(1, { by: null, data }),
        eventRecord(2, { type: "artifact.corrupt", at: 0 }),
      ];
      expect(await store.load(records)).toBe(records.length);
      for (const artifact of [FULL, ...odd, ...documents]) {
        const found = await store.artifacts.get({ id: artifact.id });
        expect(found).toEqual(artifact);
        expect(JSON.stringify(found?.metadata)).toBe(JSON.stringify(artifact.metadata));
      }
      for (const account of one)
        expect(await store.accounts.find(account.kind, { id: account.id })).toEqual(account);
      const events = await eventsOf(store);
      expect(events.map(({ data: told }) => told)).toEqual([data, {}]);
    },
  },
  {
    name: "what is loaded is listed, searched, matched and counted, and can leave again",
    async run({ store }) {
      const rows = writers.map((i) =>
        completed(i, { metadata: { a: 1, half: i % 2, own: i }, size: 10, filename: `scan ${i}.pdf` }),
      );
      // In three calls: what has a term is counted across them.
      for (const from of [0, 3, 9]) {
        const to = from === 9 ? WRITERS : from * 2 + 3;
        await store.load(rows.slice(from, to).map(artifactRecord));
      }
      const total = async (over: object): Promise<number> => (await store.artifacts.find(query(over))).total;
      expect(await total({})).toBe(WRITERS);
      expect(await total({ filter: { a: 1 } })).toBe(WRITERS);
      expect(await total({ filter: { half: 1 } })).toBe(WRITERS / 2);
      expect(await total({ filter: { own: 3 } })).toBe(1);
      expect(await total({ search: "scan" })).toBe(WRITERS);
      expect(await store.artifacts.usage(DOCK)).toEqual({ artifacts: WRITERS, open: 0, bytes: 10 * WRITERS });
      for (const { id } of rows.slice(0, 4)) {
        await store.artifacts.update(id, 1, { status: "deleted" }, event("artifact.deleted"));
      }
      expect(await total({ filter: { half: 1 } })).toBe(WRITERS / 2 - 2);
      expect(await total({ filter: { own: 3 } })).toBe(0);
      expect(await total({ search: "scan" })).toBe(WRITERS - 4);
      expect((await store.artifacts.usage(DOCK)).bytes).toBe(10 * (WRITERS - 4));
    },
  },
  {
    name: "loading again adds nothing, and changes nothing",
    async run({ store }) {
      const records = [...one.map(accountRecord), ...many(40)];
      expect(await store.load(records)).toBe(records.length);
      const before = await answersOf(store, records);
      expect(await store.load(records)).toBe(0);
      expect(await answersOf(store, records)).toEqual(before);
    },
  },
  {
    name: "what is there already is left as it is, whatever else the record says; the others are added",
    async run({ store }) {
      await store.accounts.insert([dock(1)]);
      await store.artifacts.insert(completed(1, { size: 5, metadata: { a: 1 } }), event());
      const added = await store.load([
        accountRecord(dock(1, { name: "Renamed" })),
        accountRecord(dock(2)),
        artifactRecord(completed(1, { size: 500, status: "deleted", metadata: { b: 1 } })),
        artifactRecord(completed(2, { size: 7 })),
        eventRecord(1, { type: "artifact.deleted", at: 7 }),
        eventRecord(2, { artifactId: row(2).id }),
      ]);
      expect(added).toBe(3);
      expect(await store.accounts.list("dock")).toEqual([dock(1), dock(2)]);
      expect(await store.artifacts.get({ id: row(1).id })).toMatchObject({ size: 5, metadata: { a: 1 } });
      expect(await store.artifacts.usage(DOCK)).toEqual({ artifacts: 2, open: 0, bytes: 12 });
      expect((await eventsOf(store)).map(({ type, seq }) => `${seq} ${type}`)).toEqual([
        "1 artifact.created",
        "2 artifact.created",
      ]);
      expect((await store.artifacts.find(query({ filter: { b: 1 } }))).total).toBe(0);
    },
  },
  {
    name: "of records with one key in a call, the first is added",
    async run({ store }) {
      const added = await store.load([
        accountRecord(dock(1)),
        accountRecord(dock(1, { name: "Second" })),
        artifactRecord(completed(1, { size: 1 })),
        artifactRecord(completed(1, { size: 2, digest: digest(2) })),
        eventRecord(1),
        eventRecord(1, { at: 5 }),
      ]);
      expect(added).toBe(3);
      expect(await store.accounts.list("dock")).toEqual([dock(1)]);
      expect(await store.artifacts.walk("", 10)).toEqual([completed(1, { size: 1 })]);
      expect((await eventsOf(store)).map(({ at }) => at)).toEqual([1_000]);
      expect(await store.artifacts.usage(DOCK)).toEqual({ artifacts: 1, open: 0, bytes: 1 });
    },
  },
  {
    name: "a record that breaks a unique rule is refused, and nothing of its call is added",
    async run({ store }) {
      await store.load([
        accountRecord(client(1)),
        artifactRecord(completed(1, { metadata: { a: 1 } })),
        eventRecord(1),
      ]);
      const before = await dumpOf(store);
      const conflicts: readonly StoreRecord[] = [
        artifactRecord(completed(2, { digest: digest(1) })),
        artifactRecord(completed(2, { digest: digest(1), sharesBlob: true })),
        artifactRecord(completed(2, { digest: digest(1), face: "studio" })),
        artifactRecord(row(2, { uploadId: row(1).uploadId })),
        accountRecord(client(2, { clientId: client(1).clientId })),
      ];
      for (const conflict of conflicts) {
        const call = [
          accountRecord(dock(7)),
          artifactRecord(completed(70, { metadata: { a: 1 }, size: 9 })),
          artifactRecord(row(71, { dockId: "dock_b" })),
          eventRecord(9),
          eventRecord(4, { dockId: "dock_b" }),
        ];
        for (const records of [
          [conflict, ...call],
          [...call, conflict],
        ]) {
          await expectTaken(store.load(records));
        }
      }
      expect(await dumpOf(store)).toEqual(before);
      expect(await store.artifacts.usage(DOCK)).toEqual({ artifacts: 1, open: 0, bytes: 1 });
      expect(await store.artifacts.usage("dock_b")).toEqual(NO_USAGE);
      expect((await store.artifacts.find(query({ filter: { a: 1 } }))).total).toBe(1);
      expect((await store.artifacts.find(query({ search: "file" }))).total).toBe(1);
      expect(await numberOf(store, row(5))).toBe(2);
      expect(await numberOf(store, row(6, { dockId: "dock_b" }))).toBe(1);
    },
  },
  {
    name: "two records of one call that break a unique rule between them are refused, both",
    async run({ store }) {
      await expectTaken(
        store.load([artifactRecord(completed(1)), artifactRecord(completed(2, { digest: digest(1) }))]),
      );
      await expectTaken(
        store.load([accountRecord(client(1)), accountRecord(client(2, { clientId: "dyc_1" }))]),
      );
      expect(await dumpOf(store)).toEqual([]);
    },
  },
  {
    name: "the next event comes after the highest number, whether its artifact was loaded with it or not",
    async run({ store }) {
      await store.load([eventRecord(7), eventRecord(3)]);
      expect(await numberOf(store, row(1))).toBe(8);
      await store.load([eventRecord(2), eventRecord(5)]);
      expect(await numberOf(store, row(2))).toBe(9);
      await store.load([eventRecord(20), eventRecord(8)]);
      expect(await numberOf(store, row(3))).toBe(21);
      expect((await eventsOf(store)).map(({ seq }) => seq)).toEqual([2, 3, 5, 7, 8, 9, 20, 21]);
      await store.load([artifactRecord(row(9, { dockId: "dock_b" }))]);
      expect(await numberOf(store, row(10, { dockId: "dock_b" }))).toBe(1);
    },
  },
  {
    name: "a quota counts what was loaded",
    async run({ store }) {
      await store.load([artifactRecord(row(1, { size: 5 })), artifactRecord(completed(2, { size: 5 }))]);
      const over = store.artifacts.insert(row(3), event(), { artifacts: 2 });
      expect(await reasonOf(over)).toMatchObject({ code: "quota_exceeded" });
      await store.artifacts.insert(row(3, { size: 5 }), event(), { artifacts: 3, open: 2, bytes: 15 });
    },
  },
  {
    name: "of 8 that load the same at once, beside writers, each record is added by one",
    async run({ store }) {
      const records = [...one.map(accountRecord), ...many(60)];
      const loads = Array.from({ length: 8 }, () => store.load(records));
      const inserts = writers.map((i) =>
        store.artifacts.insert(
          completed(5_000 + i, { dockId: `dock_${i % 3}`, metadata: { a: 1 } }),
          event(),
        ),
      );
      const added = (await Promise.all(loads)).reduce((sum, n) => sum + n, 0);
      const written = await Promise.all(inserts);
      expect(written).toHaveLength(WRITERS);
      const artifacts = await store.artifacts.walk("", 1_000);
      expect(artifacts).toHaveLength(60 + WRITERS);
      const events = (await Promise.all([0, 1, 2].map((i) => eventsOf(store, `dock_${i}`)))).flat();
      // A writer that came first has taken a number that the records have as well.
      expect(added).toBe(one.length + 60 + (events.length - WRITERS));
      await expectUsagesRight(store, ["dock_0", "dock_1", "dock_2"]);
      for (const i of [0, 1, 2]) {
        const dockId = `dock_${i}`;
        const all = artifacts.filter((artifact) => artifact.dockId === dockId);
        const odd = all.filter(({ metadata }) => metadata["a"] === 1);
        expect((await store.artifacts.find(query({ dockId }))).total).toBe(all.length);
        expect((await store.artifacts.find(query({ dockId, filter: { a: 1 } }))).total).toBe(odd.length);
      }
    },
  },
  {
    name: "close finishes a load under way",
    closes: true,
    async run({ store, reopen }) {
      const loading = store.load(many(50));
      await store.close();
      expect(await loading).toBe(100);
      if (reopen === undefined) return;
      const again = await reopen();
      expect(await dumpOf(again)).toHaveLength(100);
      await again.close();
    },
  },
];

/** Cases that need a second store. */
function roundTripCases(open: () => Promise<OpenStore>): readonly StoreCase[] {
  return [
    {
      name: "a dump loaded into an empty store answers every question alike, and goes on alike",
      async run({ store }) {
        await store.accounts.insert([...one, dock(2), client(2, { isActive: false })]);
        await store.accounts.update("dock", "dock_1", { name: "Renamed", quota: { artifacts: 5 } });
        await insertAll(store, [FULL, ...writers.slice(2).map((i) => row(i, { metadata: { a: i % 3 } }))]);
        for (const i of writers.slice(4)) {
          const done = { status: "upload_completed", digest: digest(i), size: i, blobKey: `b/${i}` } as const;
          await store.artifacts.update(row(i).id, 1, done, event("artifact.completed"));
        }
        for (const i of writers.slice(12)) {
          await store.artifacts.update(row(i).id, 2, { status: "deleted" }, event("artifact.deleted"));
        }
        const records = await dumpOf(store);
        const second = await open();
        try {
          expect(await second.store.load(records)).toBe(records.length);
          expect(await answersOf(second.store, records)).toEqual(await answersOf(store, records));
          expect(await dumpOf(second.store)).toEqual(records);
          expect(await numberOf(second.store, row(500))).toBe(await numberOf(store, row(500)));
        } finally {
          await second.close();
        }
      },
    },
  ];
}
