/**
 * What every store does with bodies: reads them chunk by chunk until they end or are aborted, and checks ranges.
 * Where the chunks go is left to the caller.
 */

import type { ByteRange } from "@docyard/core";

/** A body that is here already: a body like any other, except that `eachChunk` has nothing to wait for. */
export class ArrivedBody implements AsyncIterable<Uint8Array> {
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, void> {
    if (this.bytes.byteLength > 0) yield this.bytes;
  }
}

/**
 * Calls `take` for each chunk until the body ends or the signal aborts; the body is closed either way. Waits for what
 * `take` returns where that is a promise: a turn of promises more for each chunk shows in the rate of large bodies.
 */
export async function eachChunk(
  body: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
  take: (chunk: Uint8Array) => Promise<void> | undefined,
): Promise<void> {
  signal?.throwIfAborted();
  if (body instanceof ArrivedBody) {
    if (body.bytes.byteLength > 0) await take(body.bytes);
    return;
  }
  const source = body[Symbol.asyncIterator]();
  const waiting = abortable(signal);
  try {
    for (;;) {
      signal?.throwIfAborted();
      const next = await waiting.orAborted(source.next());
      if (next.done === true) return;
      const taken = take(next.value);
      if (taken !== undefined) await taken;
    }
  } catch (error) {
    const closed = Promise.resolve(source.return?.()).catch(() => {});
    // A source stuck in its own `next` may never answer its `return`.
    if (signal?.aborted !== true) await closed;
    throw error;
  } finally {
    waiting.end();
  }
}

/**
 * Waits for one promise after the other, none of them beyond the signal's abort. Racing each against one long-lived
 * promise would hold on to all of them, and a listener for each costs as much as its chunk.
 */
function abortable(signal: AbortSignal | undefined): {
  orAborted<T>(promise: Promise<T>): Promise<T>;
  end(): void;
} {
  let giveUp: ((reason: unknown) => void) | undefined;
  const onAbort = (): void => giveUp?.(signal?.reason);
  signal?.addEventListener("abort", onAbort, { once: true });
  return {
    orAborted(promise) {
      if (signal === undefined) return promise;
      return new Promise((resolve, reject) => {
        giveUp = reject;
        promise.then(resolve, reject);
      });
    },
    end() {
      signal?.removeEventListener("abort", onAbort);
    },
  };
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
