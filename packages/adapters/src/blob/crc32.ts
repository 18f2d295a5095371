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
  if (folder === undefined) folder = createFolder();
  if (folder === null) return sumOf(bytes, before);
  const { memory, fold } = folder;
  const folded = Math.floor((bytes.byteLength - REACH) / STEP) * STEP;
  memory.fill(0, 0, REACH);
  for (let at = 0; at < folded; at += SLICE) {
    const length = Math.min(SLICE, folded - at);
    memory.set(bytes.subarray(at, at + length), REACH);
    if (at === 0) {
      // A sum is carried on by adding it, inverted, to the first bytes.
      const inverted = littleEndian(~before);
      for (let i = 0; i < 4; i++) memory[REACH + i]! ^= inverted[i]!;
    }
    fold(0, length, 0);
    memory.copyWithin(0, length, length + REACH);
  }
  const rest = bytes.subarray(folded);
  memory.fill(0, REACH, 2 * REACH);
  memory.set(rest, REST);
  fold(0, REACH, REST - REACH);
  // Inverted this is 0: what came before is in the bytes by now.
  return sumOf(memory.subarray(REST, REST + rest.byteLength), 0xffff_ffff);
}

interface Folder {
  readonly memory: Uint8Array;
  /** For each block from `from + REACH` to `to + REACH`: adds what reaches it to the one that lies `shift` bytes on. */
  readonly fold: (from: number, to: number, shift: number) => void;
}

/** As much of it as is used here; its whole type comes with a browser's. */
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array<ArrayBuffer>) => object;
  readonly Instance: new (module: object) => { readonly exports: Readonly<Record<string, unknown>> };
};

/** Undefined before it is first wanted, null where it cannot be had. */
let folder: Folder | null | undefined;

/** Null where WebAssembly or its 16 byte words are not to be had: an old processor, little address space, `--jitless`. */
function createFolder(): Folder | null {
  try {
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(program()));
    const { buffer } = exports["memory"] as { readonly buffer: ArrayBuffer };
    return { memory: new Uint8Array(buffer), fold: exports["fold"] as Folder["fold"] };
  } catch {
    return null;
  }
}

/** `fold`, and a page of memory, as a WebAssembly module: a loop of loads, xors and stores, written out by hand. */
function program(): Uint8Array<ArrayBuffer> {
  const [from, to, shift] = [0, 1, 2] as const;
  const get = (local: number): number[] => [0x20, local];
  const add = 0x6a;
  const load = (offset: number): number[] => [0xfd, 0x00, 0, ...leb(offset)];
  const store = (offset: number): number[] => [0xfd, 0x0b, 0, ...leb(offset)];
  const xor = [0xfd, 0x51];
  const shifted = [...get(from), ...get(shift), add];
  const block = (at: number): number[] => [
    ...shifted,
    ...shifted,
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
    ...section(1, [1, 0x60, 3, 0x7f, 0x7f, 0x7f, 0]), // types: three i32 to nothing
    ...section(3, [1, 0]), // functions: one of that type
    ...section(5, [1, 1, 1, 1]), // memory: one page, and never more
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
