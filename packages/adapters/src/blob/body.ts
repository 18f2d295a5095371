/**
 * What every store does with bodies: reads them chunk by chunk until they end or are aborted, and checks ranges.
 * Where the chunks go is left to the caller.
 */

import type { ByteRange } from "@docyard/core";

/** Calls `take` for each chunk until the body ends or the signal aborts; the body is closed either way. */
export async function eachChunk(
  body: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
  take: (chunk: Uint8Array) => Promise<void>,
): Promise<void> {
  signal?.throwIfAborted();
  const source = body[Symbol.asyncIterator]();
  let aborted = false;
  try {
    for (;;) {
      const next = await nextUnlessAborted(source, signal).catch((error: unknown) => {
        aborted = signal?.aborted === true;
        throw error;
      });
      if (next.done === true) return;
      await take(next.value);
    }
  } catch (error) {
    const closed = Promise.resolve(source.return?.()).catch(() => {});
    // A source stuck in its own `next` may never answer its `return`.
    if (!aborted) await closed;
    throw error;
  }
}

/** The listener lives for one chunk: racing each chunk against one long-lived promise would hold on to all of them. */
async function nextUnlessAborted<T>(
  source: AsyncIterator<T>,
  signal: AbortSignal | undefined,
): Promise<IteratorResult<T>> {
  if (signal === undefined) return source.next();
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason as Error);
    if (signal.aborted) {
      onAbort();
      return;
    }
    signal.addEventListener("abort", onAbort, { once: true });
    source
      .next()
      .then(resolve, reject)
      .finally(() => signal.removeEventListener("abort", onAbort));
  });
}

/** The range, or all of it. @throws RangeError if it does not lie within the blob. */
export function checkRange(range: ByteRange | undefined, size: number): ByteRange {
  const { start, end } = range ?? { start: 0, end: size };
  const whole = Number.isSafeInteger(start) && Number.isSafeInteger(end);
  if (!(whole && 0 <= start && start <= end && end <= size)) {
    throw new RangeError(`range ${start}..${end} does not lie within ${size} bytes`);
  }
  return { start, end };
}
