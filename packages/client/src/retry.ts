/**
 * When a failed call is tried again and after how long, and waiting that a signal can end. What is sent, and whether
 * sending it twice is harmless, the callers know.
 */

import { DocyardApiError } from "./errors.ts";

/** How often and how patiently calls are repeated; every field has a default. */
export interface RetryOptions {
  /** Tries of each request in all; 1 switches repeating off. Default 4. */
  readonly attempts?: number | undefined;
  /** Upper bound of the wait after the first failure, in milliseconds; doubles with each further one. Default 250. */
  readonly baseMs?: number | undefined;
  /** Largest such bound, in milliseconds. Default 10,000. */
  readonly maxMs?: number | undefined;
  /** Longest `Retry-After` that is waited for, in milliseconds; a longer one fails at once. Default 60,000. */
  readonly retryAfterMaxMs?: number | undefined;
  /** At least 0, less than 1. Default `Math.random`. */
  readonly random?: (() => number) | undefined;
  /** Waits; rejects with the signal's reason once that aborts. Default: a timer. */
  readonly sleep?: ((ms: number, signal?: AbortSignal) => Promise<void>) | undefined;
}

export type RetryPolicy = { readonly [Name in keyof RetryOptions]-?: NonNullable<RetryOptions[Name]> };

/** @throws RangeError for numbers that bound nothing. */
export function retryPolicy(options: RetryOptions = {}): RetryPolicy {
  const { attempts = 4, baseMs = 250, maxMs = 10_000, retryAfterMaxMs = 60_000 } = options;
  const { random = Math.random, sleep = timer } = options;
  if (!(Number.isSafeInteger(attempts) && attempts >= 1)) {
    throw new RangeError("retry.attempts must be a whole number of at least 1");
  }
  if (![baseMs, maxMs, retryAfterMaxMs].every((ms) => ms >= 0)) {
    throw new RangeError("retry.baseMs, maxMs and retryAfterMaxMs must be milliseconds of at least 0");
  }
  return { attempts, baseMs, maxMs, retryAfterMaxMs, random, sleep };
}

/** Something between here and there, which passes: the call may not have been handled, or its answer was lost. */
export function isTransient({ code, status }: DocyardApiError): boolean {
  return code === "network" || [429, 502, 503, 504].includes(status);
}

/** Refused before anything was done: repeating cannot do it twice. */
export function isUntouched({ status }: DocyardApiError): boolean {
  return status === 429 || status === 503;
}

export interface Retrying {
  readonly signal?: AbortSignal | undefined;
  /** Default `isTransient`. */
  readonly isRetryable?: (error: DocyardApiError) => boolean;
}

/**
 * The first success of `work`, or its last failure. Waits "full jitter": anything up to a bound that doubles, on top of
 * what the server asked for.
 */
export async function retrying<T>(
  policy: RetryPolicy,
  { signal, isRetryable = isTransient }: Retrying,
  work: () => Promise<T>,
): Promise<T> {
  for (let failures = 0; ;) {
    signal?.throwIfAborted();
    try {
      return await work();
    } catch (error) {
      signal?.throwIfAborted();
      failures += 1;
      if (!(error instanceof DocyardApiError) || failures >= policy.attempts || !isRetryable(error))
        throw error;
      const asked = error.retryAfterMs ?? 0;
      if (asked > policy.retryAfterMaxMs) throw error;
      await policy.sleep(asked + backoff(policy, failures), signal);
    }
  }
}

/** A wait after so many failures in a row, in whole milliseconds. */
export function backoff({ baseMs, maxMs, random }: RetryPolicy, failures: number): number {
  return Math.floor(random() * Math.min(maxMs, baseMs * 2 ** (failures - 1)));
}

/** The longest that timers count, in milliseconds: beyond it they fire at once. */
const TIMER_MAX_MS = 2 ** 31 - 1;

function timer(ms: number, signal?: AbortSignal): Promise<void> {
  let id: ReturnType<typeof setTimeout> | undefined;
  const passed = new Promise<void>((resolve) => {
    id = setTimeout(resolve, Math.min(ms, TIMER_MAX_MS));
  });
  return until(signal, passed).finally(() => clearTimeout(id));
}

/** The promise's own end, or a rejection with the signal's reason if that aborts first. */
export function until<T>(signal: AbortSignal | undefined, promise: Promise<T>): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise<T>((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason as Error);
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}

/** The same with a time limit; `work` gets a signal that aborts for either reason. */
export async function within<T>(
  ms: number,
  signal: AbortSignal | undefined,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const onAbort = (): void => controller.abort(signal?.reason);
  if (signal?.aborted === true) onAbort();
  signal?.addEventListener("abort", onAbort, { once: true });
  const timer = setTimeout(
    () => controller.abort(new Error(`nothing came within ${ms} ms`)),
    Math.min(ms, TIMER_MAX_MS),
  );
  try {
    return await until(controller.signal, work(controller.signal));
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}

/** First wait between two looks, in milliseconds; grows by half each time. */
const POLL_FIRST_MS = 500;
/** Longest one, in milliseconds. */
const POLL_MAX_MS = 10_000;

/** Bounds of waiting for the server's background work. */
export interface WaitOptions {
  /** Ends the wait with its reason. */
  readonly signal?: AbortSignal | undefined;
  /** How long to wait at most, in milliseconds. Default 600,000 (10 minutes). */
  readonly timeoutMs?: number | undefined;
}

/**
 * Looks until there is something to return.
 * @throws DocyardApiError `timeout`
 */
export async function polling<T>(
  { policy, now }: { readonly policy: RetryPolicy; readonly now: () => number },
  { signal, timeoutMs = 600_000 }: WaitOptions,
  what: string,
  look: () => Promise<T | undefined>,
): Promise<T> {
  const deadline = now() + timeoutMs;
  for (let bound = POLL_FIRST_MS; ; bound = Math.min(POLL_MAX_MS, bound * 1.5)) {
    const found = await look();
    if (found !== undefined) return found;
    const left = deadline - now();
    if (left <= 0) throw new DocyardApiError("timeout", `${what} is not done after ${timeoutMs} ms`);
    // Between half of it and all, so that many clients do not look in step.
    await policy.sleep(Math.min(left, Math.ceil(bound * (0.5 + policy.random() / 2))), signal);
  }
}
