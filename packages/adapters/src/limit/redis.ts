/**
 * Fixed-window counters shared by all replicas through Redis.
 * While Redis is out of reach each replica counts by itself (`memory.ts`): a limit must never stop the service.
 */

import type { RateLimit } from "@docyard/core";
import { connectedWithin, openRedis, type RedisConnectOptions } from "../redis.ts";
import { memoryLimit } from "./memory.ts";

export interface RedisLimitOptions extends RedisConnectOptions {
  /** Keys begin with it: what shares it shares its counts. Default `docyard:limit:`. */
  readonly prefix?: string;
}

/** How long one count may take before this replica counts by itself; normal is below a millisecond. */
const TAKE_TIMEOUT_MS = 500;
const CONNECT_PATIENCE_MS = 1_000;

/**
 * One step on the server, so that replicas never allow more together than one would. Takes the key, the most allowed
 * and the window in milliseconds; answers whether one was taken, how many are by now, and when the window ends.
 */
const TAKE = `
local used = tonumber(redis.call("GET", KEYS[1]) or "0")
local allowed = used < tonumber(ARGV[1])
if allowed then used = redis.call("INCR", KEYS[1]) end
local ttl = redis.call("PTTL", KEYS[1])
if ttl < 0 or ttl > tonumber(ARGV[2]) then
  redis.call("PEXPIRE", KEYS[1], ARGV[2])
  ttl = tonumber(ARGV[2])
end
return { allowed and 1 or 0, used, ttl }
`;

interface TakeCommand {
  docyardTake(key: string, max: number, windowMs: number): Promise<[number, number, number]>;
}

/**
 * Gives Redis a moment to connect, so that the first counts are shared ones, and goes on without it.
 * @throws TypeError for a URL that is none.
 */
export async function redisLimit(options: RedisLimitOptions): Promise<RateLimit> {
  const { prefix = "docyard:limit:" } = options;
  const { client, report } = await openRedis(options, {
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    // A server that hangs is left, so that the next takes do not wait for it, too.
    socketTimeout: TAKE_TIMEOUT_MS,
    scripts: { docyardTake: { lua: TAKE, numberOfKeys: 1 } },
  });
  const commands = client as typeof client & TakeCommand;
  const alone = memoryLimit();
  if (!(await connectedWithin(client, CONNECT_PATIENCE_MS))) {
    report(new Error("Redis is out of reach: limits are counted by this process alone"));
  }
  let closed = false;

  return {
    async take(key, rule) {
      if (closed) throw new Error("the rate limit is closed");
      const { max, windowMs } = rule;
      if (max === 0 || client.status !== "ready") return alone.take(key, rule);
      try {
        const [allowed, used, ttl] = await commands.docyardTake(prefix + key, max, windowMs);
        return {
          allowed: allowed === 1,
          remaining: Math.max(0, max - used),
          retryAfterMs: allowed === 1 ? 0 : ttl,
        };
      } catch (error) {
        report(error);
        return alone.take(key, rule);
      }
    },

    async close() {
      closed = true;
      client.disconnect();
      await alone.close();
    },
  };
}
