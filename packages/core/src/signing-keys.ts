/**
 * The signing keys as a running server knows them: read once, again when they are old, and again when something was
 * signed with none of them. What a key is, and how it signs, is left to whoever reads them.
 */

/**
 * Age from which keys are read again before they are used: 30 s. So long may a server honour what was revoked, and sign
 * with a key that is no longer the newest; a read that seldom costs nothing.
 */
export const SIGNING_KEYS_AGE_MAX_MS = 30_000;
/**
 * Age up to which keys are good where reading them fails: 5 min. Whatever else a request needs is asked of the same
 * store, so a longer outage serves nobody; a shorter time would fail requests that a failover only delays.
 */
export const SIGNING_KEYS_STALE_MAX_MS = 300_000;
/** What no key fits, and reads that fail, cause at most one read in so long: anyone can invent signatures. */
const LOOK_INTERVAL_MS = 1_000;

/** Newest first: the first signs, every one verifies. */
export type Newest<K> = readonly [K, ...K[]];

export interface SigningKeys<K> {
  /**
   * The keys, read no longer ago than `SIGNING_KEYS_AGE_MAX_MS`, or `SIGNING_KEYS_STALE_MAX_MS` while reading fails. A
   * promise only where they are read for it: nobody waits for keys that are known.
   * @throws what the read threw, where there are no keys that are good.
   */
  current(): Newest<K> | Promise<Newest<K>>;
  /**
   * For what fits none of the current keys, as another replica may have a newer one: reads them again, but not for every
   * invention; then it resolves to the very array that is known.
   * @throws what the read threw: nobody knows then whether there is such a key.
   */
  again(): Promise<Newest<K>>;
}

export interface SigningKeysOptions<K> {
  /** All keys that are not revoked, newest first, ready for use. */
  readonly read: () => Promise<readonly K[]>;
  /** Milliseconds since 1970 UTC. */
  readonly now: () => number;
}

export function createSigningKeys<K>({ read, now }: SigningKeysOptions<K>): SigningKeys<K> {
  let known: Newest<K> | null = null;
  /** When the read began that gave them: what was changed after that, it may not have seen. */
  let readAt = Number.NEGATIVE_INFINITY;
  let failedAt = Number.NEGATIVE_INFINITY;
  let missedAt = Number.NEGATIVE_INFINITY;
  let reading: Promise<Newest<K>> | null = null;
  let missing: Promise<Newest<K>> | null = null;

  /** True also when the clock was set back: then nobody knows how old anything is. */
  const isOlder = (at: number, ageMs: number): boolean => now() - at >= ageMs || now() < at;

  const attempt = async (): Promise<Newest<K>> => {
    const startedAt = now();
    try {
      const [first, ...rest] = await read();
      if (first === undefined) throw new Error("there is no signing key");
      known = [first, ...rest];
      readAt = startedAt;
      return known;
    } catch (error) {
      failedAt = now();
      throw error;
    }
  };

  /** Whoever comes while a read is under way shares it. */
  const look = (): Promise<Newest<K>> => {
    reading ??= attempt().finally(() => {
      reading = null;
    });
    return reading;
  };

  /** What serves while reading fails. */
  const spare = (): Newest<K> | null => (isOlder(readAt, SIGNING_KEYS_STALE_MAX_MS) ? null : known);

  const refreshed = async (): Promise<Newest<K>> => {
    const hasJustFailed = reading === null && !isOlder(failedAt, LOOK_INTERVAL_MS);
    const kept = hasJustFailed ? spare() : null;
    if (kept !== null) return kept;
    try {
      return await look();
    } catch (error) {
      const keys = spare();
      if (keys === null) throw error;
      return keys;
    }
  };

  const current = (): Newest<K> | Promise<Newest<K>> =>
    known !== null && !isOlder(readAt, SIGNING_KEYS_AGE_MAX_MS) ? known : refreshed();

  /** A read that is under way may have begun before the key was there. */
  const afterReading = async (): Promise<Newest<K>> => {
    await reading?.catch(() => undefined);
    return look();
  };

  return {
    current,
    async again() {
      if (missing === null) {
        if (!isOlder(missedAt, LOOK_INTERVAL_MS)) return current();
        missedAt = now();
        missing = afterReading().finally(() => {
          missing = null;
        });
      }
      return missing;
    },
  };
}
