/**
 * A Studio in memory: real core on memory adapters, a clock that is turned by hand, and sources and media that are
 * tables (`studio-parts.ts`).
 */

import { memoryBlobs } from "@docyard/adapters/blob/memory";
import { memoryLimit } from "@docyard/adapters/limit/memory";
import { memoryStore } from "@docyard/adapters/store/memory";
import type {
  BlobStore,
  Docyard,
  IngestSettings,
  Queue,
  SettingsInput,
  Store,
  StudioDock,
} from "@docyard/core";
import { createDocyard, createProvisioning } from "@docyard/core";
import { NOON } from "./rows.ts";
import type { FakeSources } from "./studio-parts.ts";
import { fakeIngest, testSealer } from "./studio-parts.ts";

export interface StudioWorld {
  readonly docyard: Docyard;
  readonly studio: StudioDock;
  readonly apiKey: string;
  readonly store: Store;
  readonly blobs: BlobStore;
  readonly sources: FakeSources;
  /** Ids that were rung for, in order, delays included. */
  readonly rings: { readonly id: string; readonly delayMs: number }[];
  readonly clock: { now: number };
  /** A further key of another dock of the same organisation. */
  readonly other: StudioDock;
  /** Sends bytes to a presigned URL. */
  put(url: string, text: string): Promise<Response>;
  /** Every key the blob store has. */
  keys(): Promise<string[]>;
  /** The same world through other ports (what a test wraps to make calls fail), or under other settings. */
  through(over: {
    readonly store?: Store;
    readonly blobs?: BlobStore;
    readonly settings?: SettingsInput;
  }): Docyard;
}

export async function studioWorld(ingest: Partial<IngestSettings> = {}): Promise<StudioWorld> {
  const clock = { now: NOON };
  const now = (): number => clock.now;
  const store = memoryStore();
  const blobs = memoryBlobs({ baseUrl: "http://studio.test", secret: new Uint8Array(32).fill(7), now });
  const rings: StudioWorld["rings"] = [];
  const queue: Queue = {
    push: async (id, { delayMs = 0 } = {}) => void rings.push({ id, delayMs }),
    consume: async () => {},
    ready: async () => {},
    close: async () => {},
  };
  const sources: FakeSources = new Map();
  const ports = fakeIngest(sources);
  const through: StudioWorld["through"] = (over) =>
    createDocyard({
      store,
      blobs,
      queue,
      limit: memoryLimit({ now }),
      now,
      ingest: ports,
      settings: { ingest, limits: { studio: { max: 0, windowMs: 1 }, studioDaily: { max: 0, windowMs: 1 } } },
      ...over,
    });
  const docyard = through({});
  const provisioning = createProvisioning(store.accounts, { now });
  await provisioning.createOrganization("Acme");
  await provisioning.createDock("dock_a");
  await provisioning.createDock("dock_b");
  const { key, apiKey } = await provisioning.createKey({ name: "editor", dockId: "dock_a" });
  await store.accounts.update("key", key.id, {
    s3Credentials: await testSealer.seal("the credentials", key.id),
  });
  const foreign = await provisioning.createKey({ name: "other", dockId: "dock_b" });
  return {
    docyard,
    studio: await docyard.openStudio(apiKey),
    apiKey,
    store,
    blobs,
    sources,
    rings,
    clock,
    other: await docyard.openStudio(foreign.apiKey),
    put: (url, text) => blobs.serve.fetch(new Request(url, { method: "PUT", body: text }), docyard.blobHost),
    keys: async () => (await blobs.list("", { limit: 1_000 })).map(({ key }) => key),
    through,
  };
}
