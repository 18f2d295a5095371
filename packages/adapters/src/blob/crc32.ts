/**
 * CRC-32 as zlib has it, at more than twice the speed: Node builds its zlib without the instructions for it. So what is
 * long is first folded, 16 bytes at a time in WebAssembly, into some five thousand bytes that have the same sum.
 *
 * A CRC is the remainder of a polynomial's division, so it stays the same when multiples of the divisor are added. With
 * y = x^128, that is 16 bytes, 1 + y^89 + y^117 + y^155 + y^300 is such a multiple, the shortest of five terms. So a
 * block of 16 bytes may be taken out if it is added (xor) to those 145, 183, 211 and 300 further on; the last 300 stay.
 */

import { crc32 as sumOf } from "node:zlib";

const BLOCK = 16;
const DISTANCES = [145, 183, 211, 300].map((blocks) => blocks * BLOCK);
/** Bytes that one block may reach on. */
const REACH = 300 * BLOCK;
/** Blocks per turn of the loop. The nearest that one is added to is farther away, so none waits for another. */
const UNROLLED = 4;
const STEP = UNROLLED * BLOCK;

const PAGE = 65_536;
/** Bytes folded at a time, which a processor's cache can hold; before them lie the folded ones that reach into them. */
const SLICE = PAGE - REACH;
/** Where what remains is put, so that it is added to and adds to nothing itself. */
const REST = 3 * REACH;
/** Below that there is too little to win. */
const FOLDED_MIN = 4 * REACH;

/** The sum of these bytes, begun with that of those before. */
export function crc32(bytes: Uint8Array, before = 0): number {
  if (bytes.byteLength < FOLDED_MIN) return sumOf(bytes, before);
  const owner = owners.get(bytes.buffer);
  if (owner === undefined && folder === undefined) folder = createFolder(0);
  const used = owner ?? folder;
  if (used == null) return sumOf(bytes, before);
  const { memory, fold } = used;
  const folded = Math.floor((bytes.byteLength - REACH) / STEP) * STEP;
  memory.fill(0, 0, REACH);
  for (let at = 0; at < folded; at += SLICE) {
    const length = Math.min(SLICE, folded - at);
    // What lies in this memory is read where it lies, but for the first bytes, which are changed.
    const copied = owner === undefined ? length : at === 0 ? STEP : 0;
    memory.set(bytes.subarray(at, at + copied), REACH);
    if (at === 0) {
      // A sum is carried on by adding it, inverted, to the first bytes.
      const inverted = littleEndian(~before);
      for (let i = 0; i < 4; i++) memory[REACH + i]! ^= inverted[i]!;
    }
    if (copied > 0) fold(0, copied, 0, 0);
    if (copied < length) fold(copied, length, bytes.byteOffset + at - REACH, 0);
    memory.copyWithin(0, length, length + REACH);
  }
  const rest = bytes.subarray(folded);
  memory.fill(0, REACH, 2 * REACH);
  memory.set(rest, REST);
  fold(0, REACH, REST - REACH, REST - REACH);
  // Inverted this is 0: what came before is in the bytes by now.
  return sumOf(memory.subarray(REST, REST + rest.byteLength), 0xffff_ffff);
}

/**
 * Memory whose bytes are summed where they lie, which saves a fifth: so many of them, which threads may share, and none
 * of which is the process's before it is written to. Null where it cannot be had.
 */
export function foldedInPlace(bytes: number): Buffer | null {
  const owner = createFolder(Math.ceil(bytes / PAGE));
  if (owner === null) return null;
  const { buffer } = owner.memory;
  owners.set(buffer, owner);
  return Buffer.from(buffer, PAGE, bytes);
}

interface Folder {
  readonly memory: Uint8Array;
  /**
   * For each block from `from + REACH` to `to + REACH`: adds what reaches it to the one that lies `source` bytes on,
   * and puts the sum `target` bytes on.
   */
  readonly fold: (from: number, to: number, source: number, target: number) => void;
}

/** As much of it as is used here; its whole type comes with a browser's. */
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array<ArrayBuffer>) => object;
  readonly Instance: new (module: object) => { readonly exports: Readonly<Record<string, unknown>> };
};

/** The one for what lies anywhere. Undefined before it is first wanted, null where it cannot be had. */
let folder: Folder | null | undefined;
/** Those with memory that is summed in place. Copying into it takes three times as long, so each is for that alone. */
const owners = new WeakMap<ArrayBufferLike, Folder>();

/**
 * With so many pages more than its own; with any, its memory is shared. Null where WebAssembly, its 16 byte words or
 * the memory are not to be had: an old processor, little address space, `--jitless`.
 */
function createFolder(more: number): Folder | null {
  try {
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(program(more)));
    const { buffer } = exports["memory"] as { readonly buffer: ArrayBufferLike };
    return { memory: new Uint8Array(buffer), fold: exports["fold"] as Folder["fold"] };
  } catch {
    return null;
  }
}

/** `fold`, and its memory, as a WebAssembly module: a loop of loads, xors and stores, written out by hand. */
function program(more: number): Uint8Array<ArrayBuffer> {
  const [from, to, source, target] = [0, 1, 2, 3] as const;
  const get = (local: number): number[] => [0x20, local];
  const add = 0x6a;
  const plus = (a: number, b: number): number[] => [...get(a), ...get(b), add];
  const load = (offset: number): number[] => [0xfd, 0x00, 0, ...leb(offset)];
  const store = (offset: number): number[] => [0xfd, 0x0b, 0, ...leb(offset)];
  const xor = [0xfd, 0x51];
  const block = (at: number): number[] => [
    ...plus(from, target), // where it is stored
    ...plus(from, source),
    ...load(REACH + at),
    ...DISTANCES.flatMap((distance) => [...get(from), ...load(REACH - distance + at), ...xor]),
    ...store(REACH + at),
  ];
  const next = [...get(from), 0x41, ...signedLeb(STEP), add, 0x22, from]; // from += STEP
  const again = [...get(to), 0x49, 0x0d, 0]; // if below `to`
  const loop = [
    0x03, // loop, with no result
    0x40,
    ...Array.from({ length: UNROLLED }, (_, i) => block(i * BLOCK)).flat(),
    ...next,
    ...again,
    0x0b, // end of the loop
    0x0b, // end of the function
  ];
  const section = (id: number, content: readonly number[]): number[] => [id, ...sized(content)];
  return new Uint8Array([
    ...Buffer.from("\0asm"),
    ...littleEndian(1), // version
    ...section(1, [1, 0x60, 4, 0x7f, 0x7f, 0x7f, 0x7f, 0]), // types: four i32 to nothing
    ...section(3, [1, 0]), // functions: one of that type
    ...section(5, [1, more > 0 ? 3 : 1, ...leb(1 + more), ...leb(1 + more)]), // memory: so many pages, and never more
    ...section(7, [2, ...named("memory"), 2, 0, ...named("fold"), 0, 0]), // exports
    ...section(10, [1, ...sized([0, ...loop])]), // code, without locals
  ]);
}

const sized = (content: readonly number[]): number[] => [...leb(content.length), ...content];
const named = (name: string): number[] => sized([...Buffer.from(name)]);

const littleEndian = (value: number): number[] => [0, 8, 16, 24].map((bits) => (value >>> bits) & 0xff);

/** A number as WebAssembly writes it: seven bits a byte, the lowest first. */
function leb(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...leb(value >>> 7)];
}

/** The same for a positive number where negative ones may be: its highest bit must not be taken for a sign. */
function signedLeb(value: number): number[] {
  return value < 0x40 ? [value] : [(value & 0x7f) | 0x80, ...signedLeb(value >>> 7)];
}
