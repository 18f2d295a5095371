/**
 * A worker on a real disk and database that is stopped for longer than its lease, at each of its calls in turn, and goes
 * on when another one has finished its artifact with other bytes: it changes nothing, and what it leaves is swept.
 */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { diskBlobs } from "@docyard/adapters/blob/disk";
import { memoryLimit } from "@docyard/adapters/limit/memory";
import { memoryQueue } from "@docyard/adapters/queue/memory";
import { sqliteStore } from "@docyard/adapters/store/sqlite";
import type { BlobStore, Docyard, IngestOutcome, Store } from "@docyard/core";
import { createDocyard, createProvisioning } from "@docyard/core";
import { expect, test } from "vitest";
import { fakeIngest, type FakeSources } from "../core/studio-parts.ts";

const LEASE_MS = 60_000;
const DAY_MS = 86_400_000;
const URL_A = "https://cdn.example.com/a.mp4";

/** Counts the calls of a worker's ports, and holds the `k`-th, before its work or after it. */
function stoppedAt(
  k: number,
  when: "before" | "after",
): { watch<T extends object>(port: T): T; isStopped: Promise<void>; goOn(): void; calls(): number } {
  let calls = 0;
  const stopped = Promise.withResolvers<void>();
  const resumed = Promise.withResolvers<void>();
  const hold = async (): Promise<void> => {
    stopped.resolve();
    await resumed.promise;
  };
  return {
    watch: (port) =>
      new Proxy(port, {
        get(target, name, receiver) {
          const value: unknown = Reflect.get(target, name, receiver);
          if (typeof value !== "function") return value;
          return async (...args: unknown[]) => {
            const isTime = ++calls === k;
            if (isTime && when === "before") await hold();
            const result: unknown = await Reflect.apply(value, target, args);
            if (isTime && when === "after") await hold();
            return result;
          };
        },
      }),
    isStopped: stopped.promise,
    goOn: () => resumed.resolve(),
    calls: () => calls,
  };
}

interface World {
  readonly clock: { now: number };
  readonly sources: FakeSources;
  readonly store: Store;
  readonly blobs: BlobStore;
  docyard(ports?: { readonly store?: Store; readonly blobs?: BlobStore }): Docyard;
  keys(): Promise<string[]>;
  close(): Promise<void>;
}

async function openWorld(): Promise<World> {
  const folder = await mkdtemp(join(tmpdir(), "docyard-stopped-"));
  const clock = { now: Date.now() };
  const store = await sqliteStore({ file: join(folder, "docyard.db") });
  const blobs = await diskBlobs({
    root: join(folder, "data"),
    baseUrl: "http://stopped.test",
    secret: new Uint8Array(32).fill(3),
  });
  const sources: FakeSources = new Map();
  return {
    clock,
    sources,
    store,
    blobs,
    docyard: (ports = {}) =>
      createDocyard({
        store,
        blobs,
        queue: memoryQueue(),
        limit: memoryLimit(),
        ingest: fakeIngest(sources),
        settings: { ingest: { leaseMs: LEASE_MS } },
        now: () => clock.now,
        ...ports,
      }),
    keys: async () => (await blobs.list("", { limit: 100 })).map(({ key }) => key),
    async close() {
      await store.close();
      await blobs.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** One run of it. @returns the calls that the stopped worker made in all */
async function stop(k: number, when: "before" | "after"): Promise<{ calls: number; wasStopped: boolean }> {
  const world = await openWorld();
  try {
    const docyard = world.docyard();
    const { apiKey, dock } = (await createProvisioning(world.store.accounts).firstRun())!;
    const studio = await docyard.openStudio(apiKey);
    const { id } = await studio.create({ name: "film", type: "video", url: URL_A });

    const pause = stoppedAt(k, when);
    world.sources.set(URL_A, "video:1000:one");
    const store = { ...world.store, artifacts: pause.watch(world.store.artifacts) };
    let outcome: IngestOutcome | null = null;
    const sleeper = world
      .docyard({ store, blobs: pause.watch(world.blobs) })
      .ingest(id)
      .then((how) => (outcome = how));
    await Promise.race([pause.isStopped, sleeper]);
    const wasStopped = outcome === null;
    if (wasStopped) {
      world.clock.now += LEASE_MS + 1;
      world.sources.set(URL_A, "video:2000:two");
      const isPublished = (await world.store.artifacts.get({ id }))!.status === "upload_completed";
      const taken = await docyard.ingest(id);
      expect(taken).toBe(isPublished ? "idle" : "completed");
      const done = (await world.store.artifacts.get({ id }))!;
      const events = await world.store.artifacts.events(dock.id, 0, 100);
      pause.goOn();
      await sleeper;
      if (!isPublished) {
        expect(["lost", "idle"]).toContain(outcome);
        expect(await world.store.artifacts.get({ id })).toEqual(done);
        expect(await world.store.artifacts.events(dock.id, 0, 100)).toEqual(events);
      }
    }

    // Days later, upkeep has been by.
    world.clock.now += 3 * DAY_MS;
    expect((await docyard.sweep()).failures).toEqual([]);
    await docyard.sweepStaging();
    const row = (await world.store.artifacts.get({ id }))!;
    expect(row).toMatchObject({ status: "upload_completed", dueAt: null });
    expect(await world.keys()).toEqual([row.blobKey]);
    expect(await world.blobs.digest(row.blobKey!)).toEqual({ size: row.size, digest: row.digest });
    const completed = (await world.store.artifacts.events(dock.id, 0, 100)).filter(
      ({ type }) => type === "artifact.completed",
    );
    expect(completed).toHaveLength(1);
    return { calls: pause.calls(), wasStopped };
  } finally {
    await world.close();
  }
}

test.each(["before", "after"] as const)(
  "stopped %s any call, a worker that wakes writes nothing",
  async (when) => {
    let stops = 0;
    for (let k = 1; ; k++) {
      const { wasStopped } = await stop(k, when);
      if (!wasStopped) break;
      stops++;
    }
    // Read, claim, fetch, examine, publish, tidy: fewer would mean that the calls are not watched.
    expect(stops).toBeGreaterThanOrEqual(10);
  },
);
