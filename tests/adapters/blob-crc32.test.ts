/** The store's own CRC-32 against zlib's: the same for all bytes, however they are cut. */

import { crc32 as expected } from "node:zlib";
import { crc32 } from "../../packages/adapters/src/blob/crc32.ts";
import * as fc from "fast-check";
import { afterEach, describe, expect, test, vi } from "vitest";
import { bytesOfSize } from "./blob-bytes.ts";

const MIB = 1024 * 1024;
const random = bytesOfSize(2 * MIB + 999);

test("agrees with zlib on any bytes, begun with any sum", () => {
  const sum = fc.oneof(fc.constant(0), fc.constant(0xffff_ffff), fc.nat(0xffff_ffff));
  fc.assert(
    fc.property(fc.nat(999), fc.oneof(fc.nat(100_000), fc.nat(2 * MIB)), sum, (start, size, before) => {
      const bytes = random.subarray(start, start + size);
      expect(crc32(bytes, before)).toBe(expected(bytes, before));
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
        expect(crc32(bytes)).toBe(expected(bytes));
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
    const { crc32: own } = await import("../../packages/adapters/src/blob/crc32.ts");
    return { own, made: () => made };
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
});
