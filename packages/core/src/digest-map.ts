/**
 * SHA-256 digests with a number each, in a few dozen bytes apiece: to know, of millions of blobs, which have been seen
 * and where. Grows as it fills; nothing is ever taken out.
 */

export interface DigestMap {
  readonly size: number;
  /** @param digest 64 lower-case hex digits; only the first 128 bits are kept, which no two of a store share */
  get(digest: string): number | undefined;
  set(digest: string, value: number): void;
}

/** 32-bit words kept of each digest. */
const WORDS = 4;
/** Slots to begin with; a power of two. */
const SLOTS_MIN = 1_024;

/** Open addressing, at most half full: 24 to 96 bytes a digest. */
export function digestMap(): DigestMap {
  let slots = SLOTS_MIN;
  let keys = new Uint32Array(slots * WORDS);
  let values = new Float64Array(slots).fill(Number.NaN);
  let size = 0;

  /** The slot that holds these words, or the free one where they belong. */
  const slotOf = (words: ArrayLike<number>, offset: number): number => {
    for (let slot = words[offset]! & (slots - 1); ; slot = (slot + 1) & (slots - 1)) {
      if (Number.isNaN(values[slot])) return slot;
      let same = true;
      for (let i = 0; i < WORDS; i++) same &&= keys[slot * WORDS + i] === words[offset + i];
      if (same) return slot;
    }
  };

  const place = (words: ArrayLike<number>, offset: number, value: number): void => {
    const slot = slotOf(words, offset);
    if (Number.isNaN(values[slot])) size++;
    for (let i = 0; i < WORDS; i++) keys[slot * WORDS + i] = words[offset + i]!;
    values[slot] = value;
  };

  const grow = (): void => {
    const [oldKeys, oldValues] = [keys, values];
    slots *= 2;
    keys = new Uint32Array(slots * WORDS);
    values = new Float64Array(slots).fill(Number.NaN);
    size = 0;
    for (const [slot, value] of oldValues.entries()) {
      if (!Number.isNaN(value)) place(oldKeys, slot * WORDS, value);
    }
  };

  return {
    get size() {
      return size;
    },
    get(digest) {
      const value = values[slotOf(wordsOf(digest), 0)]!;
      return Number.isNaN(value) ? undefined : value;
    },
    set(digest, value) {
      if (Number.isNaN(value)) throw new TypeError("a digest map holds numbers");
      if (size * 2 >= slots) grow();
      place(wordsOf(digest), 0, value);
    },
  };
}

function wordsOf(digest: string): number[] {
  return Array.from({ length: WORDS }, (_, i) => Number.parseInt(digest.slice(8 * i, 8 * i + 8), 16));
}
