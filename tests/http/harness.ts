/**
 * docyard in memory behind its real HTTP app: every part in hand, a clock to turn, every log line kept.
 * Suites that need only a server's outside take it as a `Target`.
 */

import { randomUUID } from "node:crypto";
import type { MemoryBlobs } from "@docyard/adapters/blob/memory";
import { memoryBlobs } from "@docyard/adapters/blob/memory";
import { memoryLimit } from "@docyard/adapters/limit/memory";
import { memoryQueue } from "@docyard/adapters/queue/memory";
import { memoryStore } from "@docyard/adapters/store/memory";
import type {
  BlobStore,
  Docyard,
  IngestPorts,
  Provisioning,
  Queue,
  SettingsInput,
  Store,
} from "@docyard/core";
import { createDocyard, createProvisioning } from "@docyard/core";
import type { App, AppOptions, Logger } from "@docyard/server";
import { createApp } from "@docyard/server";
import { held } from "./contract.ts";
import type { Clock, Operator, Target } from "./target.ts";
import { manualClock } from "./target.ts";

export const PUBLIC_URL = "http://docyard.test";

export interface HarnessOptions {
  readonly settings?: SettingsInput;
  readonly app?: Partial<AppOptions>;
  /** Default: a clock that stands still until it is told. */
  readonly clock?: Clock;
  /** Default: a memory store. */
  readonly store?: Store;
  /** Wraps the blob store, for tests that break it. */
  readonly blobs?: (blobs: MemoryBlobs) => BlobStore;
  /** Default: a memory queue. */
  readonly queue?: Queue;
  /** Default: none, background work cannot be done. */
  readonly ingest?: IngestPorts;
  readonly publicUrl?: () => string;
  /** False where parts are made to fail in ways that they cannot: the document does not have those. Default true. */
  readonly isHeld?: boolean;
}

/** A line of the log: its level, fields and message as the logger got them. */
export interface LogLine {
  readonly level: keyof Logger;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly message: string;
}

export interface Harness extends Target {
  readonly app: App;
  readonly docyard: Docyard;
  readonly provisioning: Provisioning;
  readonly store: Store;
  readonly blobs: BlobStore;
  readonly clock: Clock;
  readonly lines: readonly LogLine[];
  /** Answers that the published document does not have; each has failed its request, too. */
  readonly violations: readonly string[];
}

export async function openHarness(options: HarnessOptions = {}): Promise<Harness> {
  const { clock = manualClock(), store = memoryStore(), publicUrl = () => PUBLIC_URL } = options;
  const now = (): number => clock.now();
  const provisioning = createProvisioning(store.accounts, { now });
  const memory = memoryBlobs({ baseUrl: publicUrl, secret: new Uint8Array(32).fill(7), now });
  const blobs = options.blobs?.(memory) ?? memory;
  const queue = options.queue ?? memoryQueue({ now });
  const limit = memoryLimit({ now });
  const docyard = createDocyard({
    store,
    blobs,
    queue,
    limit,
    now,
    ...(options.settings === undefined ? {} : { settings: options.settings }),
    ...(options.ingest === undefined ? {} : { ingest: options.ingest }),
  });
  const lines: LogLine[] = [];
  const app = createApp({
    docyard,
    provisioning,
    blobs,
    version: "0.0.0-test",
    publicUrl,
    log: capture(lines),
    now,
    ...options.app,
  });
  const { violations } = options.isHeld === false ? { violations: [] } : held(app);
  return {
    app,
    violations,
    docyard,
    provisioning,
    store,
    blobs,
    clock,
    lines,
    operator: operatorOf(provisioning),
    sizeMax: docyard.settings.sizeMax,
    // Not through `new URL`: what a test writes into a path or query is what the app gets to see.
    fetch: async (pathOrUrl, init) =>
      app.request(pathOrUrl.startsWith("/") ? PUBLIC_URL + pathOrUrl : pathOrUrl, init),
    async close() {
      await Promise.all([store.close(), blobs.close(), queue.close(), limit.close()]);
    },
  };
}

/** An operator in process, with one organisation for all that it makes: this one, or one of its own. */
export function operatorOf(provisioning: Provisioning, given?: string): Operator {
  let organization = given === undefined ? undefined : Promise.resolve(given);
  const organizationId = (): Promise<string> =>
    (organization ??= provisioning.createOrganization("Test organisation").then(({ id }) => id));
  return {
    async createDock() {
      const id = `dock_${randomUUID().slice(0, 8)}`;
      await provisioning.createDock(id, { organizationId: await organizationId() });
      return id;
    },
    async createClient({ dockId, scopes }) {
      const { client, clientSecret } = await provisioning.createClient({
        name: "test client",
        organizationId: await organizationId(),
        ...(dockId === undefined ? {} : { dockId }),
        ...(scopes === undefined ? {} : { scopes }),
      });
      return { id: client.id, clientId: client.clientId, clientSecret };
    },
    async disableClient(id) {
      await provisioning.disableClient(id);
    },
  };
}

function capture(lines: LogLine[]): Logger {
  const at =
    (level: keyof Logger) =>
    (fields: object, message: string): void =>
      void lines.push({ level, fields: { ...fields }, message });
  return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}
