/**
 * The conformance cases of `usage`, quotas and `walk`: part of the `ArtifactStore` suite.
 * What usage and quota mean is `quota.ts` in core; here it is written out once more, as numbers.
 */

import type { Artifact, ArtifactStatus, Quota, Store, Usage } from "@docyard/core";
import { ARTIFACT_STATUSES, isDocyardError, NO_USAGE } from "@docyard/core";
import { expect } from "vitest";
import type { StoreCase } from "./store-case.ts";
import {
  completed,
  digest,
  DOCK,
  event,
  eventsOf,
  expectTaken,
  insertAll,
  query,
  row,
} from "./store-case.ts";

/** How many racers each race has, and how many of them a quota lets through. */
const RACERS = 16;
const WINNERS = 8;
const racers = Array.from({ length: RACERS }, (_, i) => i);

/** What a row of a status and size adds to its dock. */
const ADDS: Readonly<Record<ArtifactStatus, (size: number | null) => Usage>> = {
  created: (size) => ({ artifacts: 1, open: 1, bytes: size ?? 0 }),
  upload_started: (size) => ({ artifacts: 1, open: 1, bytes: size ?? 0 }),
  upload_completed: (size) => ({ artifacts: 1, open: 0, bytes: size ?? 0 }),
  upload_failed: () => NO_USAGE,
  deleted: () => NO_USAGE,
};
const SIZES = [null, 0, 7, 2 ** 40] as const;

const usage = (artifacts: number, open: number, bytes: number): Usage => ({ artifacts, open, bytes });

/** Rejects with `quota_exceeded`, and with nothing else. */
async function expectFull(attempt: Promise<unknown>): Promise<void> {
  const outcome = await attempt.then(
    () => "written",
    (error: unknown) => (isDocyardError(error) ? error.code : String(error)),
  );
  expect(outcome).toBe("quota_exceeded");
}

/** How many came true; the others must all be `quota_exceeded`. */
async function allowed(attempts: readonly Promise<unknown>[]): Promise<number> {
  const outcomes = await Promise.allSettled(attempts);
  for (const outcome of outcomes) {
    if (outcome.status === "rejected" && !isDocyardError(outcome.reason, "quota_exceeded"))
      throw outcome.reason;
  }
  return outcomes.filter(({ status }) => status === "fulfilled").length;
}

/** All that a reader can see of a dock. */
async function stateOf(store: Store): Promise<unknown> {
  return {
    rows: await store.artifacts.walk("", 1_000),
    events: await eventsOf(store),
    usage: await store.artifacts.usage(DOCK),
    found: await store.artifacts.find(query()),
    named: await store.artifacts.find(query({ search: "file" })),
    matching: await store.artifacts.find(query({ filter: { a: 1 } })),
  };
}

const SUM_CASES: readonly StoreCase[] = [
  {
    name: "a dock that has nothing uses nothing",
    async run({ store: { artifacts } }) {
      expect(await artifacts.usage(DOCK)).toEqual(NO_USAGE);
    },
  },
  {
    name: "usage follows an insert of each status and size",
    async run({ store: { artifacts } }) {
      for (const [s, status] of ARTIFACT_STATUSES.entries()) {
        for (const [i, size] of SIZES.entries()) {
          const dockId = `dock_${s}_${i}`;
          await artifacts.insert(completed(s * 10 + i, { status, size, dockId }), event());
          expect(await artifacts.usage(dockId)).toEqual(ADDS[status](size));
        }
      }
    },
  },
  {
    name: "usage follows an update from each status to each, with an event and without",
    async run({ store: { artifacts } }) {
      let number = 0;
      for (const from of ARTIFACT_STATUSES) {
        for (const to of ARTIFACT_STATUSES) {
          for (const told of [event(), null]) {
            const dockId = `dock_${from}_${to}_${told?.type ?? "none"}`;
            const artifact = completed(number++, { status: from, size: 3, dockId });
            await artifacts.insert(artifact, event());
            await artifacts.update(artifact.id, 1, { status: to, size: 5 }, told);
            expect(await artifacts.usage(dockId)).toEqual(ADDS[to](5));
            await artifacts.update(artifact.id, 2, { size: null }, told);
            expect(await artifacts.usage(dockId)).toEqual(ADDS[to](null));
          }
        }
      }
    },
  },
  {
    name: "usage is a sum, of one dock, of both faces, and counts equal content each time",
    async run({ store }) {
      const shared = { digest: digest(1), sharesBlob: true, face: "studio" } as const;
      await insertAll(store, [
        row(1, { size: 10 }),
        completed(2, { size: 100, digest: digest(1) }),
        completed(3, { size: 100, ...shared }),
        completed(4, { size: 100, ...shared }),
        row(5, { size: 1_000, dockId: "dock_b" }),
      ]);
      expect(await store.artifacts.usage(DOCK)).toEqual(usage(4, 1, 310));
      expect(await store.artifacts.usage("dock_b")).toEqual(usage(1, 1, 1_000));
    },
  },
  {
    name: "a change that does not come true leaves usage alone",
    async run({ store }) {
      const { artifacts } = store;
      await insertAll(store, [completed(1, { size: 4 }), row(2, { size: 4 })]);
      await expectTaken(artifacts.insert(row(1, { size: 4 }), event()));
      await expectTaken(artifacts.insert(row(3, { size: 4, uploadId: row(1).uploadId }), event()));
      const same = { status: "upload_completed", digest: digest(1), size: 9 } as const;
      await expectTaken(artifacts.update(row(2).id, 1, same, event()));
      expect(await artifacts.update(row(2).id, 2, { size: 9 }, event())).toBeNull();
      expect(await artifacts.update(row(9).id, 1, { size: 9 }, null)).toBeNull();
      expect(await artifacts.usage(DOCK)).toEqual(usage(2, 1, 8));
    },
  },
];

/** A dock with two rows, 30 bytes, both open: at the bound of each of these quotas, and one more of anything is over. */
const BOUNDS: readonly Quota[] = [
  { artifacts: 2 },
  { open: 2 },
  { bytes: 30 },
  { artifacts: 2, open: 2, bytes: 30 },
];

const QUOTA_CASES: readonly StoreCase[] = [
  {
    name: "insert goes up to the quota's bound and not beyond it, and stores nothing then",
    async run({ store }) {
      for (const [i, quota] of BOUNDS.entries()) {
        const dockId = `dock_${i}`;
        const insert = (number: number, size: number): Promise<void> =>
          store.artifacts.insert(row(i * 10 + number, { dockId, size }), event(), quota);
        await insert(1, 10);
        await insert(2, 20);
        await expectFull(insert(3, 1));
        expect(await store.artifacts.usage(dockId)).toEqual(usage(2, 2, 30));
        expect(await store.artifacts.get({ id: row(i * 10 + 3).id })).toBeNull();
        expect(await store.artifacts.get({ uploadId: row(i * 10 + 3).uploadId! })).toBeNull();
        expect(await eventsOf(store, dockId)).toHaveLength(2);
      }
    },
  },
  {
    name: "a completed row that is refused is in no list",
    async run({ store }) {
      await store.artifacts.insert(completed(1, { metadata: { a: 1 } }), event());
      const before = await stateOf(store);
      const refused = completed(2, { metadata: { a: 1, b: 2 } });
      await expectFull(store.artifacts.insert(refused, event(), { artifacts: 1 }));
      expect(await stateOf(store)).toEqual(before);
      expect(await store.artifacts.findByDigest(DOCK, digest(2))).toBeNull();
    },
  },
  {
    name: "a quota of nothing lets in nothing but what does not count",
    async run({ store: { artifacts } }) {
      for (const quota of [{ artifacts: 0 }, { open: 0 }, { bytes: 0 }]) {
        await expectFull(artifacts.insert(row(1, { size: 1 }), event(), quota));
      }
      await artifacts.insert(row(2), event(), { bytes: 0 });
      await artifacts.insert(completed(3), event(), { open: 0 });
      await artifacts.insert(row(4, { status: "upload_failed", size: 5 }), event(), { artifacts: 0 });
      expect(await artifacts.usage(DOCK)).toEqual(usage(2, 1, 1));
    },
  },
  {
    name: "what a quota does not name, or is not given, is not limited",
    async run({ store: { artifacts } }) {
      await artifacts.insert(row(1, { size: 1_000 }), event(), {});
      await artifacts.insert(row(2, { size: 1_000 }), event());
      await artifacts.insert(row(3, { size: 1_000 }), event(), { artifacts: 3 });
      await artifacts.update(row(3).id, 1, { size: 5_000 }, event(), { artifacts: 3, open: 3 });
      expect(await artifacts.usage(DOCK)).toEqual(usage(3, 3, 7_000));
    },
  },
  {
    name: "a quota is of its own dock",
    async run({ store: { artifacts } }) {
      await artifacts.insert(row(1, { dockId: "dock_b" }), event());
      await artifacts.insert(row(2), event(), { artifacts: 1 });
      await expectFull(artifacts.insert(row(3), event(), { artifacts: 1 }));
    },
  },
  {
    name: "update from an undeclared size goes up to the bound and not beyond it, and changes nothing then",
    async run({ store }) {
      const { artifacts } = store;
      await insertAll(store, [completed(1, { size: 70 }), row(2, { metadata: { a: 1 } })]);
      const before = await stateOf(store);
      const finish = (size: number): Promise<Artifact | null> =>
        artifacts.update(
          row(2).id,
          1,
          { status: "upload_completed", size, digest: digest(2), blobKey: "blobs/2" },
          event("artifact.completed"),
          { bytes: 100 },
        );
      await expectFull(finish(31));
      expect(await stateOf(store)).toEqual(before);
      expect(await artifacts.findByDigest(DOCK, digest(2))).toBeNull();
      expect(await artifacts.isBlobInUse("blobs/2")).toBe(false);
      expect(await finish(30)).toMatchObject({ version: 2, size: 30 });
      expect(await artifacts.usage(DOCK)).toEqual(usage(2, 0, 100));
    },
  },
  {
    name: "an update without an event is held to the quota, too",
    async run({ store }) {
      await insertAll(store, [row(1)]);
      const before = await stateOf(store);
      await expectFull(store.artifacts.update(row(1).id, 1, { size: 2 }, null, { bytes: 1 }));
      expect(await stateOf(store)).toEqual(before);
      expect(await store.artifacts.update(row(1).id, 1, { size: 1 }, null, { bytes: 1 })).not.toBeNull();
    },
  },
  {
    name: "a quota lowered below the usage lets through what does not grow",
    async run({ store: { artifacts } }) {
      for (const number of [1, 2, 3]) await artifacts.insert(row(number, { size: 10 }), event());
      const lowered: Quota = { artifacts: 1, open: 1, bytes: 1 };
      const done = { status: "upload_completed", blobKey: "blobs/x" } as const;
      await artifacts.update(row(1).id, 1, { ...done, size: 10, digest: digest(1) }, event(), lowered);
      await artifacts.update(row(2).id, 1, { ...done, size: 9, digest: digest(2) }, event(), lowered);
      expect(await artifacts.usage(DOCK)).toEqual(usage(3, 1, 29));
      await artifacts.update(row(3).id, 1, { attempts: 1 }, event(), lowered);
      await expectFull(artifacts.update(row(3).id, 2, { size: 11 }, event(), lowered));
      await expectFull(artifacts.insert(row(4), event(), lowered));
      await artifacts.update(row(3).id, 2, { status: "upload_failed" }, event(), lowered);
      await artifacts.update(row(1).id, 2, { status: "deleted" }, event(), lowered);
      expect(await artifacts.usage(DOCK)).toEqual(usage(1, 0, 9));
    },
  },
  {
    name: "what a delete gives free can be used again",
    async run({ store: { artifacts } }) {
      const quota: Quota = { artifacts: 1, bytes: 5 };
      for (const number of [1, 2, 3]) {
        await artifacts.insert(completed(number, { size: 5 }), event(), quota);
        await expectFull(artifacts.insert(completed(9), event(), quota));
        await artifacts.update(row(number).id, 1, { status: "deleted" }, event(), quota);
      }
      expect(await artifacts.usage(DOCK)).toEqual(NO_USAGE);
    },
  },
  {
    name: "of 16 inserts that race for a quota of 8, 8 come true, and their events have no gaps",
    async run({ store }) {
      for (const [i, quota] of [
        { artifacts: WINNERS },
        { open: WINNERS },
        { bytes: 3 * WINNERS },
      ].entries()) {
        const dockId = `dock_${i}`;
        const attempts = racers.map((number) =>
          store.artifacts.insert(row(i * 100 + number, { dockId, size: 3 }), event(), quota),
        );
        expect(await allowed(attempts)).toBe(WINNERS);
        expect(await store.artifacts.usage(dockId)).toEqual(usage(WINNERS, WINNERS, 3 * WINNERS));
        const seqs = (await eventsOf(store, dockId)).map(({ seq }) => seq);
        expect(seqs).toEqual(Array.from({ length: WINNERS }, (_, n) => n + 1));
      }
    },
  },
  {
    name: "of 16 updates that race for the bytes of 8, 8 come true",
    async run({ store }) {
      await insertAll(
        store,
        racers.map((i) => row(i)),
      );
      const attempts = racers.map((i) =>
        store.artifacts.update(
          row(i).id,
          1,
          { status: "upload_completed", size: 10, digest: digest(i), blobKey: `blobs/${i}` },
          event("artifact.completed"),
          { bytes: 10 * WINNERS + 9 },
        ),
      );
      expect(await allowed(attempts)).toBe(WINNERS);
      expect(await store.artifacts.usage(DOCK)).toEqual(usage(RACERS, WINNERS, 10 * WINNERS));
      expect((await store.artifacts.find(query())).total).toBe(WINNERS);
      expect(await eventsOf(store)).toHaveLength(RACERS + WINNERS);
    },
  },
  {
    name: "writes that a quota refuses do not disturb the ones beside them",
    async run({ store }) {
      const attempts = racers.flatMap((i) => [
        store.artifacts.insert(completed(i), event()),
        store.artifacts.insert(row(100 + i), event(), { open: 0 }),
      ]);
      expect(await allowed(attempts)).toBe(RACERS);
      expect((await store.artifacts.find(query({ search: "file" }))).total).toBe(RACERS);
      expect(await store.artifacts.usage(DOCK)).toEqual(usage(RACERS, 0, RACERS));
    },
  },
];

const WALK_CASES: readonly StoreCase[] = [
  {
    name: "walk gives the rows of every dock, face and status, by id in code unit order",
    async run({ store }) {
      const ids = ["art_a", "art_B", "art_-", "art__", "art_0", "art_z", "art_a0", "art_A"];
      const rows = ids.map((id, i) =>
        completed(i, {
          id,
          status: ARTIFACT_STATUSES[i % ARTIFACT_STATUSES.length]!,
          dockId: `dock_${i % 3}`,
          face: i % 2 === 0 ? "machine" : "studio",
        }),
      );
      await insertAll(store, rows);
      const sorted = [...rows].sort((a, b) => (a.id < b.id ? -1 : 1));
      expect(await store.artifacts.walk("", 100)).toEqual(sorted);
    },
  },
  {
    name: "walk starts after an id, which need not be there, and ends at the limit",
    async run({ store }) {
      await insertAll(
        store,
        racers.map((i) => row(i * 10)),
      );
      const walk = async (after: string, limit: number): Promise<string[]> =>
        (await store.artifacts.walk(after, limit)).map(({ id }) => id);
      expect(await walk(row(10).id, 2)).toEqual([row(20).id, row(30).id]);
      expect(await walk(row(11).id, 2)).toEqual([row(20).id, row(30).id]);
      expect(await walk(row(140).id, 5)).toEqual([row(150).id]);
      expect(await walk(row(150).id, 5)).toEqual([]);
    },
  },
  {
    name: "pages of a walk, of whatever size, lose and repeat nothing while rows come, change and go",
    async run({ store }) {
      await insertAll(
        store,
        racers.map((i) => row(i * 10)),
      );
      for (const limit of [1, 3, 16, 100]) {
        const seen: string[] = [];
        for (let page = 0; ; page++) {
          const rows = await store.artifacts.walk(seen.at(-1) ?? "", limit);
          if (rows.length === 0) break;
          seen.push(...rows.map(({ id }) => id));
          // Behind the walk, where it must not show.
          const id = `aaa_${limit}_${page}`;
          await store.artifacts.insert(row(page, { id, uploadId: null }), event());
          const { version } = (await store.artifacts.get({ id: row(0).id }))!;
          await store.artifacts.update(row(0).id, version, { status: "deleted" }, event());
        }
        const walked = racers.map((i) => row(i * 10).id);
        expect(seen.filter((id) => id.startsWith("art_"))).toEqual(walked);
        expect(new Set(seen).size).toBe(seen.length);
      }
    },
  },
];

export const USAGE_CASES: readonly StoreCase[] = [...SUM_CASES, ...QUOTA_CASES, ...WALK_CASES];
