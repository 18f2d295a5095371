/**
 * Conformance cases about copying and deleting blobs, alone and in races.
 * Run by `blob-store.ts`.
 */

import { expect } from "vitest";
import type { BlobCase } from "./blob-case.ts";
import { bytesFor, contentOf, digestOf, expectSame, MIB, putBytes } from "./blob-case.ts";

export const COPY_CASES: readonly BlobCase[] = [
  ...[0, 10, MIB, MIB + 1].map(copiesWhole),
  {
    name: "copy from a key that is gone is false and makes nothing",
    async run({ blobs }) {
      expect(await blobs.copy("none", "to", { size: 1, digest: digestOf(bytesFor(1)) })).toBe(false);
      expect(await blobs.stat("to")).toBeNull();
      return [];
    },
  },
  {
    name: "copy of something else than expected is false and makes nothing",
    async run({ blobs }) {
      for (const size of [100, MIB + 1]) {
        await putBytes(blobs, "from", bytesFor(size));
        const other = { size, digest: digestOf(bytesFor(size, 2)) };
        expect(await blobs.copy("from", "to", other)).toBe(false);
        expect(await blobs.copy("from", "to", { size: size + 1, digest: digestOf(bytesFor(size)) })).toBe(
          false,
        );
        expect(await blobs.stat("to")).toBeNull();
      }
      return ["from"];
    },
  },
  {
    name: "nothing that happens to the source later changes the copy",
    async run({ blobs }) {
      for (const size of [1_000, MIB + 1]) {
        const bytes = bytesFor(size);
        const expected = { size, digest: await putBytes(blobs, "from", bytes) };
        expect(await blobs.copy("from", `to-${size}`, expected)).toBe(true);
        await putBytes(blobs, "from", bytesFor(size, 2));
        expectSame(await contentOf(blobs, `to-${size}`), bytes);
        await blobs.delete("from");
        expectSame(await contentOf(blobs, `to-${size}`), bytes);
        expect(await blobs.digest(`to-${size}`)).toEqual(expected);
      }
      return ["to-1000", `to-${MIB + 1}`];
    },
  },
  {
    name: "a put racing a copy can never change what the copy holds",
    async run({ blobs }) {
      const left: string[] = [];
      for (let round = 0; round < 24; round++) {
        const size = round % 2 === 0 ? 5_000 : MIB + 3;
        const wanted = bytesFor(size, 1);
        const digest = await putBytes(blobs, "from", wanted);
        const to = `to-${round}`;
        const [copied] = await Promise.all([
          blobs.copy("from", to, { size, digest }),
          putBytes(blobs, "from", bytesFor(size, 2)),
        ]);
        expectSame(await contentOf(blobs, to), copied ? wanted : null);
        if (copied) left.push(to);
      }
      return ["from", ...left];
    },
  },
  {
    name: "copies at once to one key all succeed",
    async run({ blobs }) {
      const bytes = bytesFor(MIB + 3);
      const expected = { size: bytes.byteLength, digest: await putBytes(blobs, "from", bytes) };
      const all = await Promise.all(Array.from({ length: 8 }, () => blobs.copy("from", "to", expected)));
      expect(all).toEqual(Array.from({ length: 8 }, () => true));
      expectSame(await contentOf(blobs, "to"), bytes);
      return ["from", "to"];
    },
  },
  {
    name: "delete removes the bytes, and a missing key is success",
    async run({ blobs }) {
      for (const size of [10, MIB + 1]) {
        await putBytes(blobs, "a/blob", bytesFor(size));
        await blobs.delete("a/blob");
        expect(await blobs.stat("a/blob")).toBeNull();
        expect(await contentOf(blobs, "a/blob")).toBeNull();
        await blobs.delete("a/blob");
      }
      await blobs.delete("never/was");
      await putBytes(blobs, "a/blob", bytesFor(5, 2));
      expectSame(await contentOf(blobs, "a/blob"), bytesFor(5, 2));
      return ["a/blob"];
    },
  },
  {
    name: "random keys and sizes behave like a map",
    async run({ blobs }) {
      const model = new Map<string, Uint8Array>();
      let state = 12_345;
      const random = (below: number): number => {
        state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
        return (state >>> 8) % below;
      };
      for (let step = 0; step < 120; step++) {
        const key = `m/${random(3)}/${random(5)}`;
        switch (random(4)) {
          case 0:
            model.delete(key);
            await blobs.delete(key);
            break;
          case 1: {
            const from = `m/${random(3)}/${random(5)}`;
            const held = model.get(from) ?? null;
            const expected = { size: held?.byteLength ?? 0, digest: digestOf(held ?? bytesFor(0)) };
            if (from === key || held === null) break;
            expect(await blobs.copy(from, key, expected)).toBe(true);
            model.set(key, held);
            break;
          }
          default: {
            const bytes = bytesFor(random(20) === 0 ? MIB + random(100) : random(2_000), step);
            await putBytes(blobs, key, bytes);
            model.set(key, bytes);
          }
        }
        const probe = `m/${random(3)}/${random(5)}`;
        expectSame(await contentOf(blobs, probe), model.get(probe) ?? null);
      }
      const listed = await blobs.list("m/", { limit: 100 });
      expect(listed.map(({ key }) => key)).toEqual([...model.keys()].sort((a, b) => (a < b ? -1 : 1)));
      return [...model.keys()];
    },
  },
];

function copiesWhole(size: number): BlobCase {
  return {
    name: `copy puts ${size} bytes under a second key and may be repeated`,
    async run({ blobs }) {
      const bytes = bytesFor(size);
      const expected = { size, digest: await putBytes(blobs, "in/one", bytes) };
      expect(await blobs.copy("in/one", "out/day/two", expected)).toBe(true);
      expect(await blobs.copy("in/one", "out/day/two", expected)).toBe(true);
      expectSame(await contentOf(blobs, "in/one"), bytes);
      expectSame(await contentOf(blobs, "out/day/two"), bytes);
      expect(await blobs.digest("out/day/two")).toEqual(expected);
      expect([expected.digest, null]).toContain((await blobs.stat("out/day/two"))?.digest);
      return ["in/one", "out/day/two"];
    },
  };
}
