/**
 * The conformance suite of the `ArtifactStore` port: every sentence of its contract as a named case, for any driver.
 * Cases about `find` are in `artifact-find.ts`, about `due` in `artifact-due.ts`, about usage, quotas and `walk` in
 * `artifact-usage.ts`; how a driver keeps its rows is its own affair and its own tests'.
 */

import type { Artifact, Store } from "@docyard/core";
import { ARTIFACT_STATUSES, FACES, isDocyardError, parseJson } from "@docyard/core";
import { describe, expect } from "vitest";
import { DUE_CASES } from "./artifact-due.ts";
import { FIND_CASES } from "./artifact-find.ts";
import { USAGE_CASES } from "./artifact-usage.ts";
import type { OpenStore, StoreCase } from "./store-case.ts";
import {
  completed,
  digest,
  DOCK,
  event,
  eventsOf,
  expectTaken,
  FULL,
  HOSTILE_METADATA,
  HOSTILE_NAMES,
  insertAll,
  query,
  row,
  runCases,
  winners,
} from "./store-case.ts";

export type { OpenStore } from "./store-case.ts";

/** Runs the suite; `open` is called once per case and must give an empty store. */
export function testArtifactStore(name: string, open: () => Promise<OpenStore>): void {
  describe(`${name} keeps the ArtifactStore contract`, () => {
    runCases(
      [
        ...INSERT_CASES,
        ...UPDATE_CASES,
        ...LOOKUP_CASES,
        ...EVENT_CASES,
        ...DUE_CASES,
        ...USAGE_CASES,
        ...FIND_CASES,
        ...CLOSE_CASES,
      ],
      open,
    );
  });
}

/** How many racers each race has. */
const RACERS = 16;
const racers = Array.from({ length: RACERS }, (_, i) => i);

const INSERT_CASES: readonly StoreCase[] = [
  {
    name: "insert keeps every field, and get gives them back by id and by upload id",
    async run({ store: { artifacts } }) {
      await artifacts.insert(FULL, event());
      expect(await artifacts.get({ id: FULL.id })).toEqual(FULL);
      expect(await artifacts.get({ uploadId: FULL.uploadId! })).toEqual(FULL);
    },
  },
  {
    name: "insert keeps null where there is nothing",
    async run({ store: { artifacts } }) {
      const empty = row(1, {
        uploadId: null,
        stagingKey: null,
        source: { kind: "url", url: "https://x.test/" },
      });
      await artifacts.insert(empty, event());
      expect(await artifacts.get({ id: empty.id })).toEqual(empty);
    },
  },
  {
    name: "get and status find a row whatever its status, and nothing is null",
    async run({ store }) {
      await insertAll(
        store,
        ARTIFACT_STATUSES.map((status, i) => row(i, { status })),
      );
      for (const [i, status] of ARTIFACT_STATUSES.entries()) {
        expect((await store.artifacts.get({ id: row(i).id }))?.status).toBe(status);
        expect(await store.artifacts.status(row(i).id)).toBe(status);
      }
      expect(await store.artifacts.status("art_missing")).toBeNull();
      expect(await store.artifacts.get({ id: "art_missing" })).toBeNull();
      expect(await store.artifacts.get({ uploadId: "upload_missing" })).toBeNull();
    },
  },
  {
    name: "insert refuses an id that is taken, and stores nothing",
    async run({ store }) {
      await store.artifacts.insert(row(1), event());
      const other = row(1, { uploadId: "upload_other", filename: "other" });
      await expectTaken(store.artifacts.insert(other, event()));
      expect(await store.artifacts.get({ id: row(1).id })).toEqual(row(1));
      expect(await store.artifacts.get({ uploadId: "upload_other" })).toBeNull();
      expect(await eventsOf(store)).toHaveLength(1);
    },
  },
  {
    name: "insert refuses an upload id that is taken, and stores nothing",
    async run({ store }) {
      await store.artifacts.insert(row(1), event());
      await expectTaken(store.artifacts.insert(row(2, { uploadId: row(1).uploadId }), event()));
      expect(await store.artifacts.get({ id: row(2).id })).toBeNull();
      expect(await eventsOf(store)).toHaveLength(1);
    },
  },
  {
    name: "any number of rows have no upload id",
    async run({ store }) {
      await insertAll(
        store,
        racers.map((i) => row(i, { uploadId: null })),
      );
      expect((await eventsOf(store)).length).toBe(RACERS);
    },
  },
  {
    name: "of racing inserts with one id, one is stored",
    async run({ store }) {
      const attempts = racers.map((i) =>
        store.artifacts.insert(row(1, { uploadId: `upload_${i}` }), event()),
      );
      expect(await winners(attempts)).toBe(1);
      expect(await eventsOf(store)).toHaveLength(1);
    },
  },
  {
    name: "insert keeps the unique rules of completed rows too",
    async run({ store }) {
      await store.artifacts.insert(completed(1), event());
      await expectTaken(store.artifacts.insert(completed(2, { digest: digest(1) }), event()));
      expect(await store.artifacts.get({ id: row(2).id })).toBeNull();
    },
  },
  {
    name: "filenames come back as they went in, however odd",
    async run({ store }) {
      await insertAll(
        store,
        HOSTILE_NAMES.map((filename, i) => completed(i, { filename })),
      );
      for (const [i, filename] of HOSTILE_NAMES.entries()) {
        expect((await store.artifacts.get({ id: row(i).id }))?.filename).toBe(filename);
      }
    },
  },
  {
    name: "metadata comes back as it went in, however odd its keys and values",
    async run({ store }) {
      const documents = HOSTILE_METADATA.map((text) => parseJson(text) as Artifact["metadata"]);
      await insertAll(
        store,
        documents.map((metadata, i) => completed(i, { metadata })),
      );
      const { rows } = await store.artifacts.find(query());
      for (const [i, metadata] of documents.entries()) {
        const found = await store.artifacts.get({ id: row(i).id });
        expect(JSON.stringify(found?.metadata)).toBe(JSON.stringify(metadata));
        expect(rows.find(({ id }) => id === row(i).id)?.metadata).toEqual(found?.metadata);
      }
      expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
    },
  },
  {
    name: "what a caller does to a row afterwards does not reach the store",
    async run({ store }) {
      const tags = ["a"];
      await store.artifacts.insert(completed(1, { metadata: { tags } }), event());
      tags.push("b");
      const found = (await store.artifacts.get({ id: row(1).id }))!;
      expect(found.metadata).toEqual({ tags: ["a"] });
      try {
        (found.metadata["tags"] as string[]).push("c");
      } catch {
        // A store may just as well hand out rows that cannot be changed.
      }
      expect((await store.artifacts.get({ id: row(1).id }))!.metadata).toEqual({ tags: ["a"] });
      expect((await store.artifacts.find(query())).rows[0]!.metadata).toEqual({ tags: ["a"] });
    },
  },
];

const UPDATE_CASES: readonly StoreCase[] = [
  {
    name: "update changes what it is given and nothing else, adds one to the version, and resolves to the new row",
    async run({ store: { artifacts } }) {
      await artifacts.insert({ ...FULL, status: "created" }, event());
      const change = {
        status: "upload_started",
        contentType: "video/mp4",
        size: 5,
        digest: digest(5),
        durationMs: 12,
        failure: { code: "internal", message: "no" },
        blobKey: "docks/x",
        sharesBlob: false,
        duplicateOf: "art_x",
        attempts: 4,
        dueAt: 9,
        updatedAt: 10,
      } as const;
      const changed = { ...FULL, ...change, version: 8 };
      expect(await artifacts.update(FULL.id, 7, change, event())).toEqual(changed);
      expect(await artifacts.get({ id: FULL.id })).toEqual(changed);
    },
  },
  {
    name: "update sets fields to null, and leaves out what is absent",
    async run({ store: { artifacts } }) {
      await artifacts.insert(FULL, event());
      const change = { size: null, digest: null, durationMs: null, failure: null, blobKey: null } as const;
      const cleared = { ...FULL, ...change, duplicateOf: null, dueAt: null, version: 8 };
      expect(
        await artifacts.update(FULL.id, 7, { ...change, duplicateOf: null, dueAt: null }, event()),
      ).toEqual(cleared);
      expect(await artifacts.update(FULL.id, 8, {}, event())).toEqual({ ...cleared, version: 9 });
    },
  },
  {
    name: "update with another version is null and changes nothing",
    async run({ store }) {
      await store.artifacts.insert(row(1), event());
      for (const version of [0, 2, -1]) {
        expect(await store.artifacts.update(row(1).id, version, { attempts: 9 }, event())).toBeNull();
      }
      expect(await store.artifacts.get({ id: row(1).id })).toEqual(row(1));
      expect(await eventsOf(store)).toHaveLength(1);
    },
  },
  {
    name: "update of a missing row is null and writes no event",
    async run({ store }) {
      expect(await store.artifacts.update("art_missing", 1, { attempts: 1 }, event())).toBeNull();
      expect(await eventsOf(store)).toEqual([]);
    },
  },
  {
    name: "update without an event writes none",
    async run({ store }) {
      await store.artifacts.insert(row(1), event());
      const renewed = await store.artifacts.update(row(1).id, 1, { dueAt: 5 }, null);
      expect(renewed).toEqual({ ...row(1), dueAt: 5, version: 2 });
      expect(await eventsOf(store)).toHaveLength(1);
    },
  },
  {
    name: "of 16 racing updates of one version, one comes true and writes the one event",
    async run({ store }) {
      await store.artifacts.insert(row(1), event());
      const attempts = racers.map((i) =>
        store.artifacts.update(row(1).id, 1, { attempts: i }, event("artifact.started", i)),
      );
      expect(await winners(attempts)).toBe(1);
      const found = (await store.artifacts.get({ id: row(1).id }))!;
      const events = await eventsOf(store);
      expect(found.version).toBe(2);
      expect(events.map(({ at }) => at)).toEqual([1_000, found.attempts]);
    },
  },
  {
    name: "writers that read again after a missed guard lose no update",
    async run({ store: { artifacts } }) {
      await artifacts.insert(row(1), event());
      const add = async (): Promise<void> => {
        for (;;) {
          const now = (await artifacts.get({ id: row(1).id }))!;
          const change = { attempts: now.attempts + 1 };
          if ((await artifacts.update(now.id, now.version, change, event())) !== null) return;
        }
      };
      await Promise.all(racers.map(add));
      expect(await artifacts.get({ id: row(1).id })).toMatchObject({ attempts: RACERS, version: RACERS + 1 });
    },
  },
  {
    name: "one machine row per dock and digest is completed, even where the second shares the blob",
    async run({ store }) {
      await insertAll(store, [row(1), row(2)]);
      await store.artifacts.update(row(1).id, 1, done(1), event("artifact.completed"));
      for (const sharesBlob of [false, true]) {
        await expectTaken(
          store.artifacts.update(row(2).id, 1, { ...done(1), sharesBlob }, event("artifact.completed")),
        );
      }
      expect(await store.artifacts.get({ id: row(2).id })).toEqual(row(2));
      expect(await eventsOf(store)).toHaveLength(3);
      expect((await store.artifacts.find(query())).total).toBe(1);
    },
  },
  {
    name: "one row per dock and digest holds the blob, whatever its face",
    async run({ store }) {
      await insertAll(store, [row(1), row(2, { face: "studio" }), row(3, { face: "studio" })]);
      await store.artifacts.update(row(1).id, 1, done(1), event());
      await expectTaken(store.artifacts.update(row(2).id, 1, done(1), event()));
      // Sharing it is fine, on the other face for as many as like.
      for (const number of [2, 3]) {
        const shared = await store.artifacts.update(
          row(number).id,
          1,
          { ...done(1), sharesBlob: true },
          event(),
        );
        expect(shared?.status).toBe("upload_completed");
      }
      // Nor may a completed row become a second holder later.
      await expectTaken(store.artifacts.update(row(2).id, 2, { sharesBlob: false }, event()));
      expect(await store.artifacts.get({ id: row(2).id })).toMatchObject({ sharesBlob: true, version: 2 });
    },
  },
  {
    name: "the unique rules hold for completed rows, one dock and one digest only",
    async run({ store }) {
      await insertAll(store, [
        completed(1),
        completed(2, { digest: digest(1), dockId: "dock_b" }),
        completed(3, { digest: digest(3) }),
        ...ARTIFACT_STATUSES.filter((status) => status !== "upload_completed").map((status, i) =>
          row(10 + i, { status, digest: digest(1) }),
        ),
        completed(20, { digest: null }),
        completed(21, { digest: null }),
      ]);
      expect((await store.artifacts.find(query())).total).toBe(4);
    },
  },
  {
    name: "a deleted row gives its digest free",
    async run({ store }) {
      await insertAll(store, [completed(1), row(2)]);
      await expectTaken(store.artifacts.update(row(2).id, 1, done(1), event()));
      await store.artifacts.update(row(1).id, 1, { status: "deleted" }, event("artifact.deleted"));
      expect(await store.artifacts.update(row(2).id, 1, done(1), event())).not.toBeNull();
    },
  },
  {
    name: "of 16 machine rows that race to complete the same content, one does",
    async run({ store }) {
      await insertAll(
        store,
        racers.map((i) => row(i)),
      );
      const attempts = racers.map((i) =>
        store.artifacts.update(
          row(i).id,
          1,
          { ...done(1), sharesBlob: i % 2 === 0 },
          event("artifact.completed"),
        ),
      );
      expect(await winners(attempts)).toBe(1);
      const { rows, total } = await store.artifacts.find(query());
      expect([rows.length, total]).toEqual([1, 1]);
      expect((await eventsOf(store)).filter(({ type }) => type === "artifact.completed")).toHaveLength(1);
    },
  },
  {
    name: "of 16 rows of both faces that race to hold the same content, one does, and the losers may share",
    async run({ store }) {
      await insertAll(
        store,
        racers.map((i) => row(i, { face: FACES[i % 2]! })),
      );
      expect(await winners(racers.map((i) => store.artifacts.update(row(i).id, 1, done(1), event())))).toBe(
        1,
      );
      const again = racers.map((i) =>
        store.artifacts.update(row(i).id, 1, { ...done(1), sharesBlob: true }, event()),
      );
      // All studio rows, and one machine row.
      await Promise.allSettled(again);
      const studio = await store.artifacts.find(query({ face: "studio" }));
      const machine = await store.artifacts.find(query());
      expect([studio.total, machine.total]).toEqual([RACERS / 2, 1]);
      const holders = [...studio.rows, ...machine.rows].map(({ id }) => store.artifacts.get({ id }));
      expect((await Promise.all(holders)).filter((found) => found?.sharesBlob === false)).toHaveLength(1);
    },
  },
  {
    name: "writes that fail do not disturb the ones beside them",
    async run({ store }) {
      await store.artifacts.insert(completed(0), event());
      const attempts = racers.flatMap((i) => [
        store.artifacts.insert(completed(100 + i), event()),
        store.artifacts.insert(completed(200 + i, { digest: digest(0) }), event()),
      ]);
      expect(await winners(attempts)).toBe(RACERS);
      expect((await store.artifacts.find(query())).total).toBe(RACERS + 1);
      expect(await seqsOf(store)).toEqual(upTo(RACERS + 1));
    },
  },
];

/** The change that completes a row with this content. */
function done(number: number): Pick<Artifact, "status" | "size" | "digest" | "blobKey"> {
  return { status: "upload_completed", size: 1, digest: digest(number), blobKey: `blobs/${number}` };
}

const upTo = (last: number): number[] => Array.from({ length: last }, (_, i) => i + 1);

async function seqsOf(store: Store, dockId = DOCK): Promise<number[]> {
  return (await eventsOf(store, dockId)).map(({ seq }) => seq);
}

const LOOKUP_CASES: readonly StoreCase[] = [
  {
    name: "findByDigest finds completed rows of the dock only",
    async run({ store }) {
      await insertAll(
        store,
        ARTIFACT_STATUSES.map((status, i) => row(i, { status, digest: digest(7) })),
      );
      const found = await store.artifacts.findByDigest(DOCK, digest(7));
      expect(found?.status).toBe("upload_completed");
      expect(await store.artifacts.findByDigest("dock_b", digest(7))).toBeNull();
      expect(await store.artifacts.findByDigest(DOCK, digest(8))).toBeNull();
      await store.artifacts.update(found!.id, 1, { status: "deleted" }, event());
      expect(await store.artifacts.findByDigest(DOCK, digest(7))).toBeNull();
    },
  },
  {
    name: "findByDigest finds the face that is named",
    async run({ store }) {
      const studio = completed(1, { face: "studio", digest: digest(7) });
      const machine = completed(2, { digest: digest(7), sharesBlob: true });
      await insertAll(store, [studio]);
      expect(await store.artifacts.findByDigest(DOCK, digest(7), "machine")).toBeNull();
      await insertAll(store, [machine]);
      expect(await store.artifacts.findByDigest(DOCK, digest(7), "machine")).toEqual(machine);
      expect(await store.artifacts.findByDigest(DOCK, digest(7), "studio")).toEqual(studio);
    },
  },
  {
    name: "findByDigest prefers the row that does not share its blob",
    async run({ store }) {
      const sharers = [1, 2, 3].map((i) =>
        completed(i, { face: "studio", digest: digest(7), sharesBlob: true }),
      );
      await insertAll(store, sharers);
      expect((await store.artifacts.findByDigest(DOCK, digest(7)))?.sharesBlob).toBe(true);
      const holder = completed(4, { face: "studio", digest: digest(7) });
      await insertAll(store, [holder]);
      expect(await store.artifacts.findByDigest(DOCK, digest(7))).toEqual(holder);
      expect(await store.artifacts.findByDigest(DOCK, digest(7), "studio")).toEqual(holder);
    },
  },
  {
    name: "a blob is in use while a completed row has its key, its holder or one that shares it",
    async run({ store: { artifacts } }) {
      const blobKey = "blobs/1";
      expect(await artifacts.isBlobInUse(blobKey)).toBe(false);
      await artifacts.insert(row(1, { blobKey }), event());
      expect(await artifacts.isBlobInUse(blobKey)).toBe(false);
      await artifacts.update(row(1).id, 1, done(1), event());
      expect(await artifacts.isBlobInUse(blobKey)).toBe(true);
      await artifacts.insert(completed(2, { face: "studio", blobKey, sharesBlob: true }), event());
      await artifacts.update(row(1).id, 2, { status: "deleted" }, event());
      expect(await artifacts.isBlobInUse(blobKey)).toBe(true);
      await artifacts.update(row(2).id, 1, { status: "deleted" }, event());
      expect(await artifacts.isBlobInUse(blobKey)).toBe(false);
    },
  },
];

const EVENT_CASES: readonly StoreCase[] = [
  {
    name: "events have what their writer said, and dock, artifact and number",
    async run({ store }) {
      const data = JSON.parse('{"reason":"\\u0000","__proto__":[1],"nested":{"a":null}}') as Record<
        string,
        never
      >;
      await store.artifacts.insert(row(1), { type: "artifact.created", at: 5, by: null });
      await store.artifacts.update(row(1).id, 1, {}, { type: "artifact.corrupt", at: 6, by: "key_1", data });
      expect(await eventsOf(store)).toEqual([
        { dockId: DOCK, artifactId: row(1).id, seq: 1, type: "artifact.created", at: 5, by: null, data: {} },
        { dockId: DOCK, artifactId: row(1).id, seq: 2, type: "artifact.corrupt", at: 6, by: "key_1", data },
      ]);
    },
  },
  {
    name: "each dock counts its events from one",
    async run({ store }) {
      const { artifacts } = store;
      const docks = ["dock_a", "dock_b", "dock_a", "dock_c", "dock_b", "dock_a"];
      for (const [i, dockId] of docks.entries()) await artifacts.insert(row(i, { dockId }), event());
      expect(await seqsOf(store, "dock_a")).toEqual([1, 2, 3]);
      expect(await seqsOf(store, "dock_b")).toEqual([1, 2]);
      expect(await seqsOf(store, "dock_c")).toEqual([1]);
      expect(await artifacts.events("dock_none", 0, 10)).toEqual([]);
    },
  },
  {
    name: "events start after a number and end at the limit",
    async run({ store }) {
      await insertAll(
        store,
        racers.map((i) => row(i)),
      );
      const seqs = async (after: number, limit: number): Promise<number[]> =>
        (await store.artifacts.events(DOCK, after, limit)).map(({ seq }) => seq);
      expect(await seqs(0, 3)).toEqual([1, 2, 3]);
      expect(await seqs(3, 3)).toEqual([4, 5, 6]);
      expect(await seqs(RACERS - 1, 3)).toEqual([RACERS]);
      expect(await seqs(RACERS, 3)).toEqual([]);
    },
  },
  {
    name: "concurrent writers, failing ones among them, leave no gap and no number twice",
    async run({ store }) {
      const numbers = await Promise.allSettled(
        Array.from({ length: 200 }, (_, i) =>
          store.artifacts.insert(row(i % 7 === 0 ? 0 : i, { dockId: `dock_${i % 3}` }), event()),
        ),
      );
      const stored = numbers.filter(({ status }) => status === "fulfilled").length;
      const logs = await Promise.all([0, 1, 2].map((i) => seqsOf(store, `dock_${i}`)));
      expect(logs.flat()).toHaveLength(stored);
      for (const log of logs) expect(log).toEqual(upTo(log.length));
    },
  },
  {
    name: "a reader that follows the log never meets an event before one that it has not seen",
    async run({ store }) {
      const total = 120;
      const seen: number[] = [];
      const follow = async (): Promise<void> => {
        while (seen.length < total) {
          const events = await store.artifacts.events(DOCK, seen.at(-1) ?? 0, 7);
          seen.push(...events.map(({ seq }) => seq));
          // Lets the writers have a turn: a store may answer within one.
          await new Promise((resolve) => setTimeout(resolve, 0));
        }
      };
      const write = async (from: number): Promise<void> => {
        for (let i = from; i < total; i += 4) await store.artifacts.insert(row(i), event());
      };
      await Promise.all([follow(), write(0), write(1), write(2), write(3)]);
      expect(seen).toEqual(upTo(total));
    },
  },
  {
    name: "of racing inserts each has its event once",
    async run({ store }) {
      await Promise.all(racers.map((i) => store.artifacts.insert(row(i), event())));
      const ids = (await eventsOf(store)).map(({ artifactId }) => artifactId);
      expect(ids.sort()).toEqual(racers.map((i) => row(i).id).sort());
    },
  },
];

const CLOSE_CASES: readonly StoreCase[] = [
  {
    name: "a store that is open is ready",
    async run({ store }) {
      await store.ready();
      await store.ready();
    },
  },
  {
    name: "after close every call rejects, and closing again is harmless",
    closes: true,
    async run({ store }) {
      await store.artifacts.insert(row(1), event());
      await Promise.all([store.close(), store.close()]);
      await store.close();
      const { artifacts, accounts } = store;
      const calls: Record<string, () => Promise<unknown>> = {
        ready: () => store.ready(),
        insert: () => artifacts.insert(row(2), event()),
        get: () => artifacts.get({ id: row(1).id }),
        status: () => artifacts.status(row(1).id),
        update: () => artifacts.update(row(1).id, 1, {}, event()),
        find: () => artifacts.find(query()),
        findByDigest: () => artifacts.findByDigest(DOCK, digest(1)),
        isBlobInUse: () => artifacts.isBlobInUse("x"),
        usage: () => artifacts.usage(DOCK),
        walk: () => artifacts.walk("", 1),
        due: () => artifacts.due({ status: "created", until: 1, limit: 1 }),
        events: () => artifacts.events(DOCK, 0, 1),
        "accounts.insert": () => accounts.insert([]),
        "accounts.find": () => accounts.find("dock", { id: "dock_a" }),
        "accounts.list": () => accounts.list("dock"),
        "accounts.update": () => accounts.update("dock", "dock_a", {}),
      };
      for (const [name, call] of Object.entries(calls)) {
        const outcome = await call().then(
          () => "resolved",
          (error: unknown) => (isDocyardError(error, "already_exists") ? "misleading" : "rejected"),
        );
        expect([name, outcome]).toEqual([name, "rejected"]);
      }
    },
  },
  {
    name: "close finishes the writes under way",
    closes: true,
    async run({ store, reopen }) {
      const writes = racers.map((i) => store.artifacts.insert(row(i), event()));
      await store.close();
      const outcomes = await Promise.allSettled(writes);
      expect(outcomes.map(({ status }) => status)).toEqual(writes.map(() => "fulfilled"));
      if (reopen === undefined) return;
      const again = await reopen();
      expect(await seqsOf(again)).toEqual(upTo(RACERS));
      await again.close();
    },
  },
];
