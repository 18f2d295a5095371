/**
 * The in-memory harness with a worker that is turned by hand: rings wait in a list until a test serves them, sources
 * and media are tables. Once through the app alone, once behind Node's own HTTP server.
 */

import { randomUUID } from "node:crypto";
import type { IngestOutcome, Queue } from "@docyard/core";
import type { FakeSources } from "../core/studio-parts.ts";
import { fakeIngest, testSealer } from "../core/studio-parts.ts";
import type { Harness, HarnessOptions } from "./harness.ts";
import { openHarness } from "./harness.ts";
import { openNodeHarness } from "./node-harness.ts";
import { MEDIA } from "./studio-media.ts";
import type { StudioClient, StudioOperator, StudioTarget } from "./studio-target.ts";
import { openStudio, studioClient } from "./studio-target.ts";

export interface StudioHarness extends Harness, StudioTarget {
  readonly operator: StudioOperator;
  readonly clock: Harness["clock"];
  readonly sources: FakeSources;
  /** Rings that wait, in the order in which they were rung. */
  readonly rings: readonly { readonly id: string; readonly delayMs: number }[];
  /** Serves the first ring, however long it was meant to wait. */
  step(): Promise<IngestOutcome>;
  /** S3 credentials for a key, as an operator attaches them. */
  attachCredentials(keyId: string, credentials: string): Promise<void>;
  /** A further key of the dock that this client's key opens. */
  colleague(client: StudioClient, name: string): Promise<StudioClient>;
}

type Open = (options: HarnessOptions) => Promise<Harness>;

/** @param open `openHarness`, or `openNodeHarness` for a real socket */
export async function openStudioHarness(
  options: HarnessOptions = {},
  open: Open = openHarness,
): Promise<StudioHarness> {
  const sources: FakeSources = new Map();
  const rings: { id: string; delayMs: number }[] = [];
  const queue: Queue = {
    push: async (id, { delayMs = 0 } = {}) => void rings.push({ id, delayMs }),
    consume: async () => {},
    ready: async () => {},
    close: async () => {},
  };
  const harness = await open({ queue, ingest: fakeIngest(sources), ...options });
  const { provisioning, store, docyard, clock } = harness;

  const step = async (): Promise<IngestOutcome> => {
    const ring = rings.shift();
    if (ring === undefined) throw new Error("nobody has rung");
    clock.advance(ring.delayMs);
    return docyard.ingest(ring.id);
  };

  const target: StudioHarness = {
    ...harness,
    sources,
    rings,
    step,
    operator: {
      ...harness.operator,
      async createKey({ name, dockId }) {
        const { key, apiKey } = await provisioning.createKey({ name, dockId });
        return { id: key.id, name, apiKey };
      },
    },
    async publish(bytes, name) {
      const url = `https://cdn.example.com/${randomUUID()}/${name}`;
      sources.set(url, new TextDecoder().decode(bytes));
      return url;
    },
    deadUrl: () => `https://cdn.example.com/${randomUUID()}/gone.mp4`,
    media: async (kind) => MEDIA[kind](),
    async settle() {
      while (rings.length > 0) await step();
    },
    async attachCredentials(keyId, credentials) {
      await store.accounts.update("key", keyId, {
        s3Credentials: await testSealer.seal(credentials, keyId),
      });
    },
    async colleague(client, name) {
      const { dock } = await docyard.openStudio(client.key.apiKey);
      return studioClient(target, await target.operator.createKey({ name, dockId: dock.id }));
    },
  };
  return target;
}

export const openNodeStudioHarness = (options: HarnessOptions = {}): Promise<StudioHarness> =>
  openStudioHarness(options, openNodeHarness);

/** A harness and a key of a dock of its own. */
export async function openStudioWorld(
  options: HarnessOptions = {},
): Promise<{ readonly target: StudioHarness; readonly client: StudioClient }> {
  const target = await openStudioHarness(options);
  return { target, client: await openStudio(target) };
}

/** No limit of Studio requests. */
export const UNLIMITED: NonNullable<HarnessOptions["settings"]> = {
  limits: { studio: { max: 0, windowMs: 1 }, studioDaily: { max: 0, windowMs: 1 } },
};
