/**
 * Looks at a Redis with docyard's eyes: reachable, new enough, and not one that throws keys away under pressure.
 * Working with it is the queue's and the limit's; whatever is lost there costs docyard time and never work.
 */

import type { Finding } from "./probe.ts";
import { clockFinding, failing, ok, warning } from "./probe.ts";

/** How long connecting and each command may take, in milliseconds. */
const TIMEOUT_MS = 3_000;
/** What the queue's library asks for. */
const MAJOR_MIN = 5;

/** Never rejects: what cannot be reached is a finding, too. The URL, which may hold a password, is in none of them. */
export async function probeRedis(url: string): Promise<Finding[]> {
  const { Redis } = await import("ioredis");
  const client = new Redis(url, {
    lazyConnect: true,
    connectTimeout: TIMEOUT_MS,
    commandTimeout: TIMEOUT_MS,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
  });
  /** The library says only that the connection was closed; the reason comes as an event. */
  let reason: Error | null = null;
  client.on("error", (error: Error) => (reason ??= error));
  try {
    await client.connect();
    const info = await client.info();
    const field = (name: string): string =>
      new RegExp(`^${name}:(.*)$`, "m").exec(info)?.[1]?.trim() ?? "unknown";
    const version = field("redis_version");
    const policy = field("maxmemory_policy");
    const asked = Date.now();
    const [seconds, micros] = (await client.time()).map(Number) as [number, number];
    return [
      ok("connect", "answers"),
      Number.parseInt(version, 10) >= MAJOR_MIN
        ? ok("version", `Redis ${version}`)
        : failing("version", `Redis ${version}`, `upgrade to Redis ${MAJOR_MIN} or newer`),
      policy === "noeviction"
        ? ok("eviction", "noeviction")
        : warning(
            "eviction",
            policy,
            "rings and counts may vanish under pressure: set maxmemory-policy noeviction",
          ),
      await scripting(client),
      clockFinding(seconds * 1_000 + micros / 1_000, asked, Date.now()),
    ];
  } catch (error) {
    const told = (reason ?? error) as Error & { code?: string };
    return [failing("connect", told.code ?? told.message.split("\n", 1)[0]!, fixFor(told))];
  } finally {
    client.disconnect();
  }
}

async function scripting(client: { eval(script: string, keys: number): Promise<unknown> }): Promise<Finding> {
  try {
    await client.eval("return 1", 0);
    return ok("scripting", "Lua scripts run");
  } catch {
    return failing("scripting", "Lua scripts are refused", "allow EVAL and EVALSHA to this user (ACL)");
  }
}

function fixFor({ code, message }: Error & { readonly code?: string }): string {
  if (/NOAUTH|WRONGPASS|NOPERM/.test(message)) return "correct user and password in --queue";
  if (code === "ECONNREFUSED") return "nothing listens at its host and port: start it, or correct --queue";
  if (code === "ENOTFOUND") return "its host name is unknown: correct --queue";
  return "check that this machine reaches it, and whether it wants TLS (rediss://)";
}
