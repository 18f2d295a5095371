/**
 * One life of the test double's server: the production core and the production app on ports with faults in front, and
 * what dies with a process, its queue and its counters. The store and the blobs outlive it and are handed in.
 */

import type {
  BlobStore,
  Docyard,
  IdSource,
  IngestPorts,
  Provisioning,
  Queue,
  RateLimit,
  SettingsInput,
  Store,
} from "@docyard/core";
import {
  ARTIFACT_STATUSES,
  CHORES_INTERVAL_MS,
  createDocyard,
  createProvisioning,
  SWEEP_INTERVAL_MS,
} from "@docyard/core";
import { memoryLimit } from "../limit/memory.ts";
import { memoryQueue } from "../queue/memory.ts";
import type { VirtualClock } from "./clock.ts";
import type { FaultRegistry, Life } from "./faults.ts";
import { Crashed } from "./faults.ts";
import type { Tasks } from "./tasks.ts";

/** What an app is made of; `createApp` of `@docyard/server` takes it as it is. */
export interface AppParts {
  readonly docyard: Docyard;
  readonly provisioning: Provisioning;
  readonly blobs: BlobStore;
  readonly version: string;
  readonly publicUrl: () => string;
  readonly now: () => number;
}

/** Node's own objects, where the double is behind a socket. */
export interface HostBindings {
  readonly incoming: unknown;
  readonly outgoing: unknown;
}

/** A web-standard app, Hono's for one. */
export interface FetchApp {
  readonly fetch: (request: Request, bindings?: HostBindings) => Response | Promise<Response>;
}

export interface ProcessOptions<App extends FetchApp> {
  readonly createApp: (parts: AppParts) => App;
  readonly store: Store;
  readonly blobs: BlobStore;
  readonly ingest: IngestPorts;
  readonly settings: SettingsInput;
  readonly publicUrl: () => string;
  readonly version: string;
  readonly clock: VirtualClock;
  readonly tasks: Tasks;
  readonly faults: FaultRegistry;
  readonly ids: IdSource;
  /** From 0 up to 1. */
  readonly random: () => number;
  readonly onError: (error: unknown) => void;
}

export interface ServerProcess<App extends FetchApp> {
  readonly app: App;
  readonly docyard: Docyard;
  readonly life: Life;
  /** When it looks for what is due next, in milliseconds since 1970 UTC; infinity once it is dead. */
  nextChoreAt(): number;
  /**
   * Looks for what is due, as a server's background work does; and for what is too old, every hour or when it starts.
   * Resolves to whether there was anything to look at.
   */
  doChores(isStart?: boolean): Promise<boolean>;
  /** Whether rings wait. */
  isRung(): boolean;
  /** Serves all rings that wait, and those that come of it. */
  answerRings(): Promise<void>;
  /** Forgets the rate limits' counts. */
  forgetCounts(): Promise<void>;
  end(): Promise<void>;
}

export function startProcess<App extends FetchApp>(options: ProcessOptions<App>): ServerProcess<App> {
  const { clock, faults, ids, random, tasks, onError } = options;
  const now = (): number => clock.now();
  let isOver = false;
  const life: Life = {
    get isOver() {
      return isOver;
    },
    end() {
      isOver = true;
    },
  };
  const queue = memoryQueue({ now, setTimeout: (callback, ms) => clock.after(ms, callback) });
  let counts = memoryLimit({ now });
  const limit: RateLimit = { take: (...args) => counts.take(...args), close: () => counts.close() };
  const { store, ingest } = options;
  const faulty: Store = {
    artifacts: faults.before("artifacts", store.artifacts, life),
    accounts: faults.before("accounts", store.accounts, life),
    dump: (...args) => store.dump(...args),
    load: (...args) => store.load(...args),
    ready: () => store.ready(),
    close: () => store.close(),
  };
  const blobs = faults.before("blobs", options.blobs, life);
  const docyard = createDocyard({
    store: faulty,
    blobs,
    queue: faults.before("queue", queue, life),
    limit: faults.before("limit", limit, life),
    ingest: {
      fetchUrl: faults.before("fetchUrl", ingest.fetchUrl, life),
      s3: faults.before("s3", ingest.s3, life),
      media: faults.before("media", ingest.media, life),
      sealer: ingest.sealer,
    },
    settings: options.settings,
    now,
    ids,
    random,
  });
  const app = options.createApp({
    docyard,
    provisioning: createProvisioning(faulty.accounts, { now, ids }),
    blobs,
    version: options.version,
    publicUrl: options.publicUrl,
    now,
  });

  let nextSweepAt = now() + SWEEP_INTERVAL_MS;
  let nextHourlyAt = now() + CHORES_INTERVAL_MS;
  let isSweeping = false;
  const chores = async (isStart: boolean): Promise<void> => {
    const at = now();
    nextSweepAt = at + SWEEP_INTERVAL_MS;
    // As live: never twice at a time, however long one takes.
    if (isSweeping) return;
    isSweeping = true;
    try {
      const { failures } = await docyard.sweep();
      for (const { error } of failures) onError(error);
      if (at < nextHourlyAt && !isStart) return;
      nextHourlyAt = at + CHORES_INTERVAL_MS;
      await docyard.sweepStaging();
      await docyard.applyRetention({ dryRun: false });
    } finally {
      isSweeping = false;
    }
  };
  const quietly = async (work: () => Promise<unknown>): Promise<void> => {
    try {
      await tasks.run(work);
    } catch (error) {
      // As live: the row stays due and the next sweep finds it. The dead have nothing to say.
      if (!(error instanceof Crashed)) onError(error);
    }
  };
  const ended = (): boolean => life.isOver;

  return {
    app,
    docyard,
    life,
    nextChoreAt: () => (ended() ? Number.POSITIVE_INFINITY : nextSweepAt),
    async doChores(isStart = false) {
      const at = now();
      // A day has 2,880 sweeps: those that can find nothing, and that no fault waits for, are not worth a look each.
      const isIdle = !isStart && at < nextHourlyAt && faults.list().length === 0;
      if (isIdle && !(await isAnythingDue(store, at))) {
        nextSweepAt = at + SWEEP_INTERVAL_MS;
        return false;
      }
      const done = quietly(() => chores(isStart));
      await Promise.race([done, tasks.settled()]);
      return true;
    },
    isRung: () => queue.waiting > 0 && !ended(),
    async answerRings() {
      while (queue.waiting > 0 && !ended()) {
        await answerOne(queue, (id) => quietly(() => docyard.ingest(id, { onError })), tasks);
      }
    },
    async forgetCounts() {
      counts = memoryLimit({ now });
    },
    async end() {
      life.end();
      await Promise.all([queue.close(), limit.close()]);
    },
  };
}

/** Serves the first ring that waits, until it is served or waits for the clock. */
async function answerOne(queue: Queue, handle: (id: string) => Promise<void>, tasks: Tasks): Promise<void> {
  const stop = new AbortController();
  // The queue hands over what waits before `consume` first yields, and nothing after the abort.
  const consumed = queue.consume(handle, { concurrency: 1, signal: stop.signal });
  stop.abort();
  await Promise.race([consumed, tasks.settled()]);
}

async function isAnythingDue({ artifacts }: Store, until: number): Promise<boolean> {
  for (const status of ARTIFACT_STATUSES) {
    if ((await artifacts.due({ status, until, limit: 1 })).length > 0) return true;
  }
  return false;
}
