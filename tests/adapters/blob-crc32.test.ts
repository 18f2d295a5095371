/** The store's own CRC-32 against zlib's: the same for all bytes, however they are cut. */

import { crc32 as expected } from "node:zlib";
import { crc32, foldedInPlace } from "../../packages/adapters/src/blob/crc32.ts";
import type { Buffers } from "../../packages/adapters/src/blob/buffers.ts";
import * as fc from "fast-check";
import { afterEach, describe, expect, test, vi } from "vitest";
import { bytesOfSize } from "./blob-bytes.ts";

const MIB = 1024 * 1024;
const random = bytesOfSize(2 * MIB + 999);
const place = foldedInPlace(random.byteLength)!;

/** The sum of the same bytes where they are summed in place, `at` so many bytes; they must stay what they are. */
function sumInPlace(bytes: Uint8Array, before?: number, at = 0): number {
  const placed = place.subarray(at, at + bytes.byteLength);
  placed.set(bytes);
  const sum = crc32(placed, before);
  expect(Buffer.compare(placed, bytes)).toBe(0);
  return sum;
}

test("agrees with zlib on any bytes, begun with any sum", () => {
  const sum = fc.oneof(fc.constant(0), fc.constant(0xffff_ffff), fc.nat(0xffff_ffff));
  fc.assert(
    fc.property(fc.nat(999), fc.oneof(fc.nat(100_000), fc.nat(2 * MIB)), sum, (start, size, before) => {
      const bytes = random.subarray(start, start + size);
      expect(crc32(bytes, before)).toBe(expected(bytes, before));
      expect(sumInPlace(bytes, before, random.byteLength - bytes.byteLength)).toBe(expected(bytes, before));
    }),
    { numRuns: 300 },
  );
});

test("a body may be cut anywhere", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(300_000), { maxLength: 7 }), (sizes) => {
      let [at, sum] = [0, 0];
      for (const size of sizes) {
        sum = crc32(random.subarray(at, at + size), sum);
        at += size;
      }
      expect(sum).toBe(expected(random.subarray(0, at)));
    }),
  );
});

test("agrees at every size around its own boundaries, also where all bits are alike", () => {
  const bodies = [random, new Uint8Array(MIB), new Uint8Array(MIB).fill(0xff)];
  for (const edge of [19_200, 60_736, 65_536, 2 * 60_736 + 4_800]) {
    for (let size = edge - 70; size <= edge + 70; size++) {
      for (const body of bodies) {
        const bytes = body.subarray(0, size);
        const sum = expected(bytes);
        expect([crc32(bytes), sumInPlace(bytes)]).toEqual([sum, sum]);
      }
    }
  }
});

test("every single bit counts", () => {
  const bytes = random.slice(0, 70_000);
  const sum = crc32(bytes);
  for (let bit = 0; bit < bytes.byteLength * 8; bit += 1_201) {
    bytes[bit >> 3]! ^= 1 << (bit & 7);
    expect(crc32(bytes)).not.toBe(sum);
    bytes[bit >> 3]! ^= 1 << (bit & 7);
  }
});

describe("WebAssembly", () => {
  /** A fresh copy of the module, and how often it made a program out of bytes; `refuses` says whether that fails. */
  async function fresh(refuses: boolean) {
    const real = (
      globalThis as unknown as { WebAssembly: Record<"Module" | "Instance", new (arg: never) => object> }
    ).WebAssembly;
    let made = 0;
    class Module extends real.Module {
      constructor(bytes: never) {
        made++;
        if (refuses) throw new Error("no such instruction");
        super(bytes);
      }
    }
    vi.stubGlobal("WebAssembly", { ...real, Instance: real.Instance, Module });
    vi.resetModules();
    const { crc32: own, foldedInPlace: place } = await import("../../packages/adapters/src/blob/crc32.ts");
    const { hashedBuffers, summedBuffers } = await import("../../packages/adapters/src/blob/buffers.ts");
    return { own, place, hashedBuffers, summedBuffers, made: () => made };
  }
  afterEach(() => void vi.unstubAllGlobals());

  test.each([false, true])(
    "is asked for once, when it is first of use; zlib sums alone without it (%s)",
    async (refuses) => {
      const { own, made } = await fresh(refuses);
      expect(own(random.subarray(0, 1_000))).toBe(expected(random.subarray(0, 1_000)));
      expect(made()).toBe(0);
      for (const size of [20_000, MIB]) {
        const bytes = random.subarray(0, size);
        expect(own(bytes, 7)).toBe(expected(bytes, 7));
      }
      expect(made()).toBe(1);
    },
  );

  test.each([false, true])(
    "or not, there are buffers, whose sums are right; those that are kept come first (without it: %s)",
    async (refuses) => {
      const { own, place, hashedBuffers, summedBuffers } = await fresh(refuses);
      expect(place(MIB) === null).toBe(refuses);
      const kinds = (from: Buffers): string[] => {
        const buffers = Array.from({ length: 20 }, () => from.take(MIB));
        for (const [i, buffer] of buffers.entries()) random.copy(buffer, 0, i);
        for (const [i, buffer] of buffers.entries()) {
          const bytes = random.subarray(i, i + MIB);
          expect([buffer.byteLength, own(buffer, i)]).toEqual([MIB, expected(bytes, i)]);
          from.give(buffer);
        }
        return buffers.map(({ buffer }) =>
          buffer instanceof ArrayBuffer ? "own" : buffer.byteLength > MIB ? "in place" : "shared",
        );
      };
      const first = (count: number, other: string): string[] =>
        Array.from({ length: 20 }, (_, i) => (i < count && !refuses ? "in place" : other));
      for (let i = 0; i < 2; i++) {
        expect(kinds(summedBuffers)).toEqual(first(16, "own"));
        expect(kinds(hashedBuffers)).toEqual(first(8, "shared"));
      }
    },
  );
});
