/**
 * The doorbell between replicas: BullMQ jobs that hold nothing but an artifact's id, on a Redis that may lose them all.
 * The rows say what is to be done and the sweep rings again; so nothing here waits for Redis for longer than a moment.
 */

import type { Job, Processor, Queue as BullQueue } from "bullmq";
import type { Redis } from "ioredis";
import type { Queue } from "@docyard/core";
import { openRedis, settlesWithin, type RedisConnectOptions } from "../redis.ts";

export interface RedisQueueOptions extends RedisConnectOptions {
  /** All servers of one installation use the same; letters, digits, `.`, `_`, `-`. Default `docyard`. */
  readonly name?: string;
}

/** How long a push may hold up the request it belongs to, when Redis hangs or is gone. */
const PUSH_TIMEOUT_MS = 1_500;
/** How long `ready` waits for an answer. */
const READY_TIMEOUT_MS = 2_000;
/** How long the end of a consumer waits for Redis, after its handlers have settled. */
const CLOSE_TIMEOUT_MS = 2_000;
/** Silence after which a connection that waits for rings is given up; BullMQ asks for them every 5 s at least. */
const CONSUME_SILENCE_MS = 15_000;
/** Rings that could not be delivered and are tried again on reconnecting; beyond it, the sweep sees to them. */
const MISSED_MAX = 10_000;
/** A worker that died with a job is noticed so much later, and the job rung again as often as it takes. */
const LOCK_MS = 30_000;
const STALLED_MAX = 1_000_000;
/** Pause before a consumer asks a Redis that failed again; BullMQ's own 15 s would be a long silence. */
const RETRY_DELAY_MS = 1_000;
/** Events that BullMQ keeps for listeners, of which there are none. */
const EVENTS_KEPT = 100;

const NAME = /^[A-Za-z0-9._-]{1,100}$/;

/** Never waits for Redis to be there; @throws TypeError for a URL or a name that is none. */
export async function redisQueue(options: RedisQueueOptions): Promise<Queue> {
  const { name = "docyard" } = options;
  if (!NAME.test(name))
    throw new TypeError("A queue's name must be letters, digits, dots, dashes, underscores");
  const { Queue: Bull } = await import("bullmq");
  const { client, report } = await openRedis(options, {
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    socketTimeout: PUSH_TIMEOUT_MS,
  });
  const bull = new Bull<string>(name, {
    connection: client,
    // BullMQ would ask for the version while opening, and never again work if that one answer got lost.
    skipVersionCheck: true,
    skipWaitingForReady: true,
    streams: { events: { maxLen: EVENTS_KEPT } },
    defaultJobOptions: { removeOnComplete: true, removeOnFail: true },
  });
  bull.on("error", report);
  const closing = new AbortController();
  const consumers = new Set<Promise<void>>();
  const bell = createBell(bull, client, report);

  return {
    async push(id, { delayMs = 0 } = {}) {
      closing.signal.throwIfAborted();
      await bell.ring(id, delayMs);
    },

    async consume(handle, { concurrency, signal }) {
      if (!(Number.isInteger(concurrency) && concurrency >= 1)) {
        throw new TypeError("concurrency must be a whole number of at least 1");
      }
      closing.signal.throwIfAborted();
      const stop = AbortSignal.any([signal, closing.signal]);
      const consuming = consumeUntil(stop, { ...options, name, handle, concurrency });
      consumers.add(consuming);
      try {
        await consuming;
      } finally {
        consumers.delete(consuming);
      }
    },

    async ready() {
      closing.signal.throwIfAborted();
      const answered = client.status === "ready" ? client.ping() : bell.connected();
      if (!(await settlesWithin(answered, READY_TIMEOUT_MS))) throw new Error("Redis does not answer");
      await answered;
    },

    async close() {
      if (closing.signal.aborted) return;
      closing.abort(new Error("the queue is closed"));
      await Promise.allSettled(consumers);
      bell.silence();
      await settlesWithin(bull.close(), CLOSE_TIMEOUT_MS);
      client.disconnect();
    },
  };
}

interface Bell {
  /** Resolves when the ring is with Redis, or when waiting for that has taken long enough. */
  ring(id: string, delayMs: number): Promise<void>;
  connected(): Promise<void>;
  silence(): void;
}

function createBell(bull: BullQueue<string>, client: Redis, report: (error: unknown) => void): Bell {
  /** Ids and when they are due. */
  const missed = new Map<string, number>();
  let connected = Promise.withResolvers<void>();
  let lostAt = Date.now();

  const add = async (id: string, dueAt: number): Promise<void> => {
    const delay = Math.max(0, dueAt - Date.now());
    await bull.add(
      "ring",
      id,
      // One ring at a time waits for each id, and one that comes while it is handled rings afterwards; a delayed one
      // is of its own, or it would hold back those that are to ring at once.
      delay > 0 ? { delay } : { deduplication: { id, keepLastIfActive: true } },
    );
  };

  const miss = (id: string, dueAt: number): void => {
    if (missed.size < MISSED_MAX) missed.set(id, Math.min(dueAt, missed.get(id) ?? dueAt));
  };

  const onReady = (): void => {
    connected.resolve();
    const late = [...missed];
    missed.clear();
    for (const [id, dueAt] of late) {
      add(id, dueAt).catch((error: unknown) => {
        report(error);
        miss(id, dueAt);
      });
    }
  };
  const onClose = (): void => {
    // Called at every failed try, too: only the first is a loss.
    if (lostAt !== Infinity) return;
    lostAt = Date.now();
    connected = Promise.withResolvers();
  };
  client.on("ready", () => {
    lostAt = Infinity;
    onReady();
  });
  client.on("close", onClose);

  return {
    connected: () => connected.promise,

    async ring(id, delayMs) {
      const dueAt = Date.now() + delayMs;
      if (client.status !== "ready") {
        // Who comes long after the connection was lost does not wait for it.
        const patience = Math.max(0, lostAt + PUSH_TIMEOUT_MS - Date.now());
        if (patience === 0 || !(await settlesWithin(connected.promise, patience))) {
          report(new Error("Redis is out of reach: rings wait for it, or for the sweep"));
          miss(id, dueAt);
          return;
        }
      }
      const adding = add(id, dueAt).catch((error: unknown) => {
        report(error);
        miss(id, dueAt);
      });
      await settlesWithin(adding, PUSH_TIMEOUT_MS);
    },

    silence() {
      missed.clear();
      connected.resolve();
    },
  };
}

interface Consumer extends RedisConnectOptions {
  readonly name: string;
  readonly handle: (id: string) => Promise<void>;
  readonly concurrency: number;
}

/** Serves rings until `stop` aborts and the handlers under way have settled. */
async function consumeUntil(stop: AbortSignal, consumer: Consumer): Promise<void> {
  const { Worker, WaitingError } = await import("bullmq");
  const { client, report } = await openRedis(consumer, {
    // BullMQ's rule for workers; what hangs is ended by the silence.
    maxRetriesPerRequest: null,
    socketTimeout: CONSUME_SILENCE_MS,
  });
  const clients = trackDuplicates(client);
  const running = new Set<Promise<void>>();

  const process: Processor<string> = async (job: Job<string>, token?: string) => {
    if (stop.aborted) {
      // Handed out while we were closing: it is someone else's to serve.
      await job.moveToWait(token);
      throw new WaitingError();
    }
    const work = handled(consumer.handle, job.data);
    running.add(work);
    await work;
    running.delete(work);
  };
  const worker = new Worker<string>(consumer.name, process, {
    connection: client,
    concurrency: consumer.concurrency,
    removeOnComplete: { count: 0 },
    removeOnFail: { count: 0 },
    lockDuration: LOCK_MS,
    stalledInterval: LOCK_MS,
    runRetryDelay: RETRY_DELAY_MS,
    maxStalledCount: STALLED_MAX,
  });
  worker.on("error", report);

  try {
    await aborted(stop);
  } finally {
    const closed = worker.close();
    await Promise.all(running);
    if (!(await settlesWithin(closed, CLOSE_TIMEOUT_MS))) {
      // Where Redis is gone, BullMQ waits for it without end, and can only be forced as if it had not begun to.
      worker.closing = undefined;
      await settlesWithin(worker.close(true), CLOSE_TIMEOUT_MS);
    }
    for (const each of clients) each.disconnect();
  }
}

/** Never rejects: a failing handler is the handler's affair. */
async function handled(handle: (id: string) => Promise<void>, id: string): Promise<void> {
  try {
    await handle(id);
  } catch {
    // The row says what is still to do, and the sweep rings again.
  }
}

/** BullMQ makes itself a second connection that nobody else could end. */
function trackDuplicates(client: Redis): Set<Redis> {
  const clients = new Set([client]);
  const duplicate = client.duplicate.bind(client);
  client.duplicate = (override) => {
    const copy = duplicate(override);
    clients.add(copy);
    return copy;
  };
  return clients;
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  signal.addEventListener("abort", () => resolve(), { once: true });
  await promise;
}
