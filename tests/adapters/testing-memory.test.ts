/**
 * The memory store's indexes against the slowest answer there is: after every change, each question is answered once by
 * the store and once by a look at every row. The contract itself is the conformance suite's affair.
 */

import { memoryBlobs } from "@docyard/adapters/blob/memory";
import { memoryStore } from "@docyard/adapters/store/memory";
import type { Artifact, Store } from "@docyard/core";
import { addUsage, ARTIFACT_STATUSES, isDocyardError, NO_USAGE, usageOf } from "@docyard/core";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { artifactRow, NOON } from "../core/rows.ts";

const DIGESTS = ["a".repeat(64), "b".repeat(64)];
const DOCKS = ["dock_a", "dock_b"];
const TIMES = [NOON, NOON + 1, NOON + 2];

const row = fc.record({
  id: fc.integer({ min: 0, max: 9 }).map((n) => `art_${n}`),
  dockId: fc.constantFrom(...DOCKS),
  uploadId: fc.option(fc.integer({ min: 0, max: 9 }).map((n) => `upload_${n}`)),
  face: fc.constantFrom("machine" as const, "studio" as const),
  dueAt: fc.option(fc.constantFrom(...TIMES)),
  createdAt: fc.constantFrom(...TIMES),
});
const change = fc.record(
  {
    status: fc.constantFrom("upload_completed" as const, "upload_failed" as const, "deleted" as const),
    digest: fc.option(fc.constantFrom(...DIGESTS)),
    blobKey: fc.option(fc.constantFrom("docks/x-1", "docks/x-2")),
    sharesBlob: fc.boolean(),
    dueAt: fc.option(fc.constantFrom(...TIMES)),
    size: fc.option(fc.integer({ min: 0, max: 5 })),
  },
  { requiredKeys: [] },
);
const step = fc.oneof(
  row.map((facts) => ({ kind: "insert", facts }) as const),
  fc
    .record({ id: fc.integer({ min: 0, max: 9 }).map((n) => `art_${n}`), change })
    .map((update) => ({ kind: "update", ...update }) as const),
  fc.array(row, { maxLength: 3 }).map((rows) => ({ kind: "load", rows }) as const),
);

test("every indexed answer is what a look at every row says", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
      const store = memoryStore();
      for (const one of steps) {
        const before = await rowsOf(store);
        const outcome = await apply(store, one).catch((error: unknown) => {
          if (!isDocyardError(error, "already_exists")) throw error;
          return "refused" as const;
        });
        if (outcome === "refused") expect(await rowsOf(store)).toEqual(before);
        await compare(store);
      }
      await store.close();
    }),
    { numRuns: 150 },
  );
});

async function apply(
  store: Store,
  one: typeof step extends fc.Arbitrary<infer S> ? S : never,
): Promise<unknown> {
  const event = { type: "artifact.created", at: NOON, by: null } as const;
  if (one.kind === "insert") return store.artifacts.insert(artifactRow(one.facts), event);
  if (one.kind === "load") {
    return store.load(one.rows.map((facts) => ({ kind: "artifact", artifact: artifactRow(facts) })));
  }
  const { version } = (await store.artifacts.get({ id: one.id })) ?? { version: 1 };
  return store.artifacts.update(one.id, version, one.change, event);
}

async function rowsOf(store: Store): Promise<Artifact[]> {
  const rows: Artifact[] = [];
  for await (const batch of store.dump()) {
    for (const record of batch) if (record.kind === "artifact") rows.push(record.artifact);
  }
  return rows;
}

/** By looking at every row: nothing here can be quick, and little can be wrong. */
async function compare({ artifacts, ...store }: Store): Promise<void> {
  const rows = await rowsOf({ artifacts, ...store });
  const completed = rows.filter(({ status }) => status === "upload_completed");
  for (const { id, uploadId } of rows) {
    expect(await artifacts.get({ id })).toEqual(rows.find((one) => one.id === id));
    if (uploadId !== null) expect((await artifacts.get({ uploadId }))?.id).toBe(id);
  }
  for (const key of ["docks/x-1", "docks/x-2", "docks/x-3"]) {
    expect(await artifacts.isBlobInUse(key)).toBe(completed.some(({ blobKey }) => blobKey === key));
  }
  for (const now of [0, ...TIMES, Number.MAX_SAFE_INTEGER]) {
    for (const status of ARTIFACT_STATUSES) {
      const due = rows
        .filter((one) => one.status === status && one.dueAt !== null && one.dueAt <= now)
        .sort((a, b) => a.dueAt! - b.dueAt! || (a.id < b.id ? -1 : 1));
      expect(await artifacts.due({ status, until: now, limit: 3 })).toEqual(due.slice(0, 3));
    }
  }
  for (const dockId of DOCKS) {
    const own = rows.filter((one) => one.dockId === dockId);
    expect(await artifacts.usage(dockId)).toEqual(own.map(usageOf).reduce(addUsage, NO_USAGE));
    for (const digest of DIGESTS) {
      const holders = completed.filter((one) => one.dockId === dockId && one.digest === digest);
      for (const face of ["machine", "studio", undefined] as const) {
        const wanted = holders.filter((one) => face === undefined || one.face === face);
        const found = await artifacts.findByDigest(dockId, digest, face);
        expect(found !== null).toBe(wanted.length > 0);
        if (found === null) continue;
        expect(wanted).toContainEqual(found);
        expect(found.sharesBlob).toBe(wanted.every(({ sharesBlob }) => sharesBlob));
      }
    }
    for (const face of ["machine", "studio"] as const) {
      const found = await artifacts.find({
        dockId,
        face,
        statuses: ["created", "upload_completed"],
        start: { offset: 0 },
        limit: 100,
      });
      const wanted = own.filter(
        (one) => one.face === face && ["created", "upload_completed"].includes(one.status),
      );
      expect(found.total).toBe(wanted.length);
      expect(found.rows.map(({ id }) => id).sort()).toEqual(wanted.map(({ id }) => id).sort());
    }
  }
}

test("keys come in order and from the right one on, whatever was put and deleted before", async () => {
  const name = fc.constantFrom("a", "a/b", "a/c", "ab", "b", "b/a", "a.b");
  const action = fc.record({ key: name, isDelete: fc.boolean(), prefix: name, after: fc.option(name) });
  await fc.assert(
    fc.asyncProperty(fc.array(action, { maxLength: 25 }), async (actions) => {
      const blobs = memoryBlobs({ baseUrl: "http://x", secret: new Uint8Array(32) });
      const keys = new Set<string>();
      const body = async function* (): AsyncGenerator<Uint8Array, void, void> {
        yield new Uint8Array(1);
      };
      for (const { key, isDelete, prefix, after } of actions) {
        if (isDelete) await blobs.delete(key);
        else await blobs.put(key, body(), { sizeMax: 1 });
        if (isDelete) keys.delete(key);
        else keys.add(key);
        const wanted = [...keys].filter((one) => one.startsWith(prefix) && one > (after ?? "")).sort();
        for (const limit of [1, 10]) {
          const listed = await blobs.list(prefix, { limit, ...(after === null ? {} : { after }) });
          expect(listed.map((one) => one.key)).toEqual(wanted.slice(0, limit));
        }
      }
      await blobs.close();
    }),
  );
});
