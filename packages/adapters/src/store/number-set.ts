/**
 * Sets of row numbers in little memory: cut into containers of 65,536 numbers, each a sorted list while it is sparse and
 * bits once it is dense, as Roaring bitmaps have it. Which numbers are in a set is its owner's affair (`sql-sets.ts`).
 */

/** Numbers that one container is about. */
const CONTAINER = 65_536;
/** Words of 32 bits that hold a container: 8 KiB. */
const WORDS = CONTAINER / 32;
/** Numbers from which on a list would be longer than the bits. */
const LIST_MAX = (WORDS * 4) / 2;
/** What a container costs beside its numbers, in bytes: two objects of the engine's, and its place among the others. */
const CONTAINER_OVERHEAD = 256;

/** The lower 16 bits of each number, in order; or a bit for each number. */
type Container = Uint16Array | Uint32Array;

/** Never changed: whoever reads one may go on while it is replaced. */
export interface NumberSet {
  /** By number divided by their size. */
  readonly containers: ReadonlyMap<number, Container>;
  /** Memory that it takes. */
  readonly bytes: number;
}

export const EMPTY_SET: NumberSet = { containers: new Map(), bytes: 0 };

/** The set with these numbers, or without them: in any order, some of them perhaps in it already, or not. */
export function changed(set: NumberSet, numbers: Float64Array, isIn: boolean): NumberSet {
  if (numbers.length === 0) return set;
  const sorted = isSorted(numbers) ? numbers : numbers.toSorted();
  const containers = new Map(set.containers);
  let { bytes } = set;
  for (let from = 0; from < sorted.length;) {
    const key = Math.floor(sorted[from]! / CONTAINER);
    const to = endOf(sorted, from, (key + 1) * CONTAINER);
    const before = containers.get(key);
    const bits = unpacked(before);
    for (let i = from; i < to; i++) {
      const low = sorted[i]! - key * CONTAINER;
      if (isIn) bits[low >>> 5]! |= 1 << (low & 31);
      else bits[low >>> 5]! &= ~(1 << (low & 31));
    }
    const after = packed(bits);
    bytes += sizeOf(after) - sizeOf(before);
    if (after === undefined) containers.delete(key);
    else containers.set(key, after);
    from = to;
  }
  return { containers, bytes };
}

/** How many numbers all of these sets have; at least one set. */
export function countCommon(sets: readonly NumberSet[]): number {
  const [fewest, ...others] = sets.toSorted((a, b) => a.containers.size - b.containers.size);
  let count = 0;
  for (const [key, container] of fewest!.containers) {
    const all = [container];
    for (const { containers } of others) {
      const other = containers.get(key);
      if (other === undefined) break;
      all.push(other);
    }
    if (all.length === sets.length) count += countCommonOf(all);
  }
  return count;
}

function countCommonOf(containers: readonly Container[]): number {
  const lists = containers.filter((one) => one instanceof Uint16Array).sort((a, b) => a.length - b.length);
  const bits = containers.filter((one) => one instanceof Uint32Array);
  let [list] = lists;
  if (list === undefined) return countBits(bits);
  for (const other of lists.slice(1)) list = inBoth(list, other);
  let count = 0;
  for (const low of list) if (bits.every((words) => (words[low >>> 5]! & (1 << (low & 31))) !== 0)) count++;
  return count;
}

/** The numbers of two lists that are in both. */
function inBoth(few: Uint16Array, many: Uint16Array): Uint16Array {
  const found = new Uint16Array(few.length);
  let count = 0;
  let i = 0;
  for (const low of few) {
    while (i < many.length && many[i]! < low) i++;
    if (many[i] === low) found[count++] = low;
  }
  return found.subarray(0, count);
}

/** How many bits all of them have. */
function countBits(all: readonly Uint32Array[]): number {
  let count = 0;
  for (let i = 0; i < WORDS; i++) {
    let word = -1;
    for (const bits of all) word &= bits[i]!;
    // The bits of a word, added up in pairs, fours, eights and all at once.
    word -= (word >>> 1) & 0x55555555;
    word = (word & 0x33333333) + ((word >>> 2) & 0x33333333);
    count += Math.imul((word + (word >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
  }
  return count;
}

/** Where the numbers from `limit` on begin, in order. */
function endOf(sorted: Float64Array, from: number, limit: number): number {
  let end = from + 1;
  while (end < sorted.length && sorted[end]! < limit) end++;
  return end;
}

/** Numbers of a row come sorted but for a few; sorting them again takes longer than all the rest. */
function isSorted(numbers: Float64Array): boolean {
  for (let i = 1; i < numbers.length; i++) if (numbers[i]! < numbers[i - 1]!) return false;
  return true;
}

/** Where containers are changed, one after the other. */
const desk = new Uint32Array(WORDS);

function unpacked(container: Container | undefined): Uint32Array {
  if (container instanceof Uint32Array) {
    desk.set(container);
  } else {
    desk.fill(0);
    for (const low of container ?? []) desk[low >>> 5]! |= 1 << (low & 31);
  }
  return desk;
}

/** The same numbers in the least memory. */
function packed(bits: Uint32Array): Container | undefined {
  const count = countBits([bits]);
  if (count === 0) return undefined;
  if (count > LIST_MAX) return bits.slice();
  const list = new Uint16Array(count);
  let next = 0;
  for (let i = 0; i < WORDS; i++) {
    // The lowest bit, again and again.
    for (let word = bits[i]!; word !== 0; word &= word - 1)
      list[next++] = i * 32 + 31 - Math.clz32(word & -word);
  }
  return list;
}

function sizeOf(container: Container | undefined): number {
  return container === undefined ? 0 : container.byteLength + CONTAINER_OVERHEAD;
}
