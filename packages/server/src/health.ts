/**
 * Liveness and readiness for whoever restarts or routes around this server. Liveness asks nothing of anyone; readiness
 * asks every part, but never more often than a bound, since anyone may call it.
 */

import type { Hono } from "hono";
import type { AppEnv } from "./exchange.ts";
import { replyJson } from "./exchange.ts";
import { inTime } from "./in-time.ts";
import type { Logger } from "./log.ts";
import { describeFault } from "./log.ts";

/** Parts by name, each with the promise that it can work. */
export type ReadinessChecks = Readonly<Record<string, () => Promise<void>>>;

/** A part that says nothing for so long is not ready: 5 s, below the usual timeouts of those who ask. */
const CHECK_TIMEOUT_MS = 5_000;
/** One round of checks serves all who ask within so long: 1 s. */
const RESULT_AGE_MAX_MS = 1_000;

interface Readiness {
  readonly isReady: boolean;
  /** What failed is named, why is only logged. */
  readonly checks: Readonly<Record<string, "ok" | "failing">>;
}

export interface HealthOptions {
  readonly version: string;
  readonly checks: ReadinessChecks;
  readonly log: Logger;
}

export function mountHealth(app: Hono<AppEnv>, { version, checks, log }: HealthOptions): void {
  const readiness = shared(() => runChecks(checks, log));

  app.get("/v1/healthz", (c) => replyJson(c, { status: "ok", version }));

  app.get("/v1/readyz", async (c) => {
    const { isReady, checks } = await readiness();
    return replyJson(
      c,
      { status: isReady ? "ready" : "unavailable", checks },
      { status: isReady ? 200 : 503 },
    );
  });
}

async function runChecks(checks: ReadinessChecks, log: Logger): Promise<Readiness> {
  const results = await Promise.all(
    Object.entries(checks).map(async ([part, check]) => {
      try {
        await inTime(check(), CHECK_TIMEOUT_MS, () => new Error(`no answer within ${CHECK_TIMEOUT_MS} ms`));
        return [part, "ok"] as const;
      } catch (error) {
        log.warn({ part, error: describeFault(error) }, "not ready");
        return [part, "failing"] as const;
      }
    }),
  );
  return { isReady: results.every(([, result]) => result === "ok"), checks: Object.fromEntries(results) };
}

/** Those who ask during a round share it, and its result stays good for a moment. */
function shared<T>(run: () => Promise<T>): () => Promise<T> {
  let last: Promise<T> | null = null;
  let startedAt = 0;
  let isRunning = false;
  return () => {
    if (last !== null && (isRunning || performance.now() - startedAt < RESULT_AGE_MAX_MS)) return last;
    startedAt = performance.now();
    isRunning = true;
    last = run().finally(() => {
      isRunning = false;
    });
    return last;
  };
}
