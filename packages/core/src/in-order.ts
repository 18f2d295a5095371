/** Several pieces of work at a time, their results in the order of the pieces: what a walk that can be resumed needs. */

/**
 * Yields `work(item)` of every item, in the order of the items, while the next few are under way. Whatever ends it
 * early, a rejection or a caller that stops, it first waits for what it has begun.
 * @param width how many are under way at most
 */
export async function* inOrder<T, R>(
  items: AsyncIterable<T> | Iterable<T>,
  width: number,
  work: (item: T) => Promise<R>,
): AsyncGenerator<R, void, void> {
  const begun: Promise<R>[] = [];
  try {
    for await (const item of items) {
      const result = work(item);
      // Reported when its turn comes.
      result.catch(() => {});
      begun.push(result);
      if (begun.length >= width) {
        yield await begun[0]!;
        void begun.shift();
      }
    }
    while (begun.length > 0) {
      yield await begun[0]!;
      void begun.shift();
    }
  } finally {
    await Promise.allSettled(begun);
  }
}
