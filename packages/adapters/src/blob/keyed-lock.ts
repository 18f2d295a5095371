/**
 * One at a time per key, within this process: what publishes, copies and deletes a name takes turns.
 * Between processes nothing is locked; there atomic renames and fingerprints keep things whole.
 */

export type KeyedLock = <T>(key: string, run: () => Promise<T>) => Promise<T>;

export function createKeyedLock(): KeyedLock {
  const tails = new Map<string, Promise<void>>();
  return async (key, run) => {
    const before = tails.get(key);
    const { promise, resolve } = Promise.withResolvers<void>();
    tails.set(key, promise);
    try {
      await before;
      return await run();
    } finally {
      resolve();
      if (tails.get(key) === promise) tails.delete(key);
    }
  };
}
