/**
 * Connections to a Redis that may hang, restart empty or be gone: they fail fast, come back by themselves, and say so
 * at a bounded rate. What is kept there is the drivers' business; docyard keeps nothing there that it cannot lose.
 */

import type { Redis, RedisOptions } from "ioredis";

export interface RedisConnectOptions {
  /** `redis://` or `rediss://`, with user, password and database number where needed. Never logged. */
  readonly url: string;
  /** Told about trouble, at most once in ten seconds; docyard goes on meanwhile. Default: nobody. */
  readonly onError?: (error: Error) => void;
}

/** A server that does not even accept is tried again sooner. */
const CONNECT_TIMEOUT_MS = 2_000;
/** Longest pause between two tries to connect: it bounds how long a Redis that came back goes unused. */
const RETRY_DELAY_MAX_MS = 1_000;
/**
 * Shortest time between two connections that are left because their server has become a replica, in milliseconds: it
 * may be the only one there is.
 */
const LEAVE_EVERY_MS = 1_000;
/** One line in so long: at every try there would be three a second. */
const REPORT_EVERY_MS = 10_000;

/**
 * A client that is connecting, and connects again for ever until it is disconnected. Creating one never waits and
 * never fails for want of a server.
 * @throws TypeError for a URL that is none.
 */
export async function openRedis(
  { url, onError }: RedisConnectOptions,
  options: Omit<RedisOptions, "replyMapping">,
): Promise<{ readonly client: Redis; readonly report: (error: unknown) => void }> {
  const parsed = URL.parse(url);
  // Not quoted: it may hold a password.
  if (parsed === null || !/^rediss?:$/.test(parsed.protocol)) {
    throw new TypeError("A Redis URL must begin with redis:// or rediss://");
  }
  const { Redis: Client } = await import("ioredis");
  const report = throttled(onError);
  const client = new Client(url, {
    ...options,
    connectTimeout: CONNECT_TIMEOUT_MS,
    reconnectOnError: leavesReplicas(),
    retryStrategy: (times: number) => Math.min(50 * 2 ** Math.min(times, 10), RETRY_DELAY_MAX_MS),
  });
  // Without a listener, a server that goes away would end the process or fill the log.
  client.on("error", report);
  return { client, report };
}

/**
 * After a failover the old server keeps its connections and refuses every write: the address has to be asked anew who
 * is there now.
 */
function leavesReplicas(): (error: Error) => boolean {
  let quietUntil = 0;
  return ({ message }) => {
    // Older servers say it inside of what they say of a script.
    if (!message.includes("READONLY") || Date.now() < quietUntil) return false;
    quietUntil = Date.now() + LEAVE_EVERY_MS;
    return true;
  };
}

/** Passes on the first of what comes within `REPORT_EVERY_MS`. */
function throttled(onError: ((error: Error) => void) | undefined): (error: unknown) => void {
  let quietUntil = 0;
  return (error) => {
    if (onError === undefined || Date.now() < quietUntil) return;
    quietUntil = Date.now() + REPORT_EVERY_MS;
    onError(error instanceof Error ? error : new Error(String(error)));
  };
}

/** Resolves once the client is connected, or when it has had long enough for that. */
export async function connectedWithin(client: Redis, limitMs: number): Promise<boolean> {
  if (client.status === "ready") return true;
  const { promise, resolve } = Promise.withResolvers<void>();
  client.once("ready", resolve);
  const connected = await settlesWithin(promise, limitMs);
  client.off("ready", resolve);
  return connected;
}

/** Resolves to true when the promise settles in time; the timer does not outlive it. */
export async function settlesWithin(promise: Promise<unknown>, limitMs: number): Promise<boolean> {
  const { promise: late, resolve } = Promise.withResolvers<false>();
  const timer = setTimeout(resolve, limitMs, false);
  const settled = promise.then(
    () => true,
    () => true,
  );
  try {
    return await Promise.race([settled, late]);
  } finally {
    clearTimeout(timer);
  }
}
