/**
 * Conformance cases about putting bytes under keys: whole or not at all, bounded, and under no key that leaves its place.
 * Run by `blob-store.ts`.
 */

import { expect } from "vitest";
import type { BlobCase } from "./blob-case.ts";
import {
  bytesFor,
  chunked,
  codeOf,
  collect,
  contentOf,
  digestOf,
  expectSame,
  forGet,
  forPut,
  MIB,
  putBytes,
  SIZES,
} from "./blob-case.ts";

const sizeMax = 64 * MIB;

export const PUT_CASES: readonly BlobCase[] = [
  ...SIZES.map(agreesOn),
  {
    name: "put takes chunks of any size, empty ones among them",
    async run({ blobs }) {
      const bytes = bytesFor(300_000);
      const cuts = [0, 0, 1, 2, 65_536, 65_537, 200_000, 200_000, 300_000];
      const body = async function* () {
        for (let i = 1; i < cuts.length; i++) yield bytes.subarray(cuts[i - 1], cuts[i]);
      };
      await blobs.put("blob", body(), { sizeMax });
      expectSame(await contentOf(blobs, "blob"), bytes);
      return ["blob"];
    },
  },
  {
    name: "put does not rely on a chunk after it has asked for the next",
    async run({ blobs }) {
      const bytes = bytesFor(2 * MIB + 5);
      const body = async function* () {
        const one = Buffer.alloc(50_000);
        for (let at = 0; at < bytes.byteLength; at += one.byteLength) {
          const part = bytes.subarray(at, at + one.byteLength);
          one.set(part);
          yield one.subarray(0, part.byteLength);
          one.fill(0xee);
        }
      };
      await blobs.put("blob", body(), { sizeMax });
      expectSame(await contentOf(blobs, "blob"), bytes);
      return ["blob"];
    },
  },
  {
    name: "what may vanish is there like anything else while the store runs, and replaces and is replaced",
    async run({ blobs }) {
      const [first, second] = [bytesFor(1_000), bytesFor(2 * MIB)];
      const put = (bytes: Uint8Array, mayVanish: boolean) =>
        blobs.put("folder/1/blob", chunked(bytes), { sizeMax, mayVanish });
      expect(await put(first, true)).toEqual({ size: first.byteLength, digest: digestOf(first) });
      expectSame(await contentOf(blobs, "folder/1/blob"), first);
      await put(second, false);
      await put(first, true);
      expectSame(await contentOf(blobs, "folder/1/blob"), first);
      const expected = { size: first.byteLength, digest: digestOf(first) };
      expect(await blobs.copy("folder/1/blob", "kept", expected)).toBe(true);
      await blobs.delete("folder/1/blob", { mayReturn: true });
      expect(await blobs.stat("folder/1/blob")).toBeNull();
      expectSame(await contentOf(blobs, "kept"), first);
      return ["kept"];
    },
  },
  {
    name: "what get hands out can be put under another key",
    async run({ blobs }) {
      const bytes = bytesFor(3 * MIB + 7);
      await putBytes(blobs, "one", bytes);
      await blobs.put("two", (await blobs.get("one")).body, { sizeMax });
      expectSame(await contentOf(blobs, "two"), bytes);
      return ["one", "two"];
    },
  },
  {
    name: "a blob is readable only when its put is complete",
    async run({ blobs }) {
      const { promise: gate, resolve } = Promise.withResolvers<void>();
      const body = async function* () {
        yield bytesFor(100_000);
        await gate;
        yield bytesFor(100_000, 2);
      };
      const putting = blobs.put("blob", body(), { sizeMax });
      expect(await blobs.stat("blob")).toBeNull();
      expect(await contentOf(blobs, "blob")).toBeNull();
      expect(await blobs.list("", { limit: 10 })).toEqual([]);
      resolve();
      await putting;
      expect((await blobs.stat("blob"))?.size).toBe(200_000);
      return ["blob"];
    },
  },
  {
    name: "put replaces earlier bytes at once: before, the old ones are whole; after, the new ones",
    async run({ blobs }) {
      const before = bytesFor(MIB + 9);
      const after = bytesFor(40_000, 2);
      await putBytes(blobs, "blob", before);
      const { promise: gate, resolve } = Promise.withResolvers<void>();
      const body = async function* () {
        yield after.subarray(0, 20_000);
        await gate;
        yield after.subarray(20_000);
      };
      const putting = blobs.put("blob", body(), { sizeMax });
      expectSame(await contentOf(blobs, "blob"), before);
      resolve();
      await putting;
      expectSame(await contentOf(blobs, "blob"), after);
      expect(await blobs.digest("blob")).toEqual({ size: after.byteLength, digest: digestOf(after) });
      return ["blob"];
    },
  },
  ...[MIB, 2 * MIB].flatMap((from) => [1, MIB + 1, 2 * MIB].map((to) => followsReplacement(from, to))),
  {
    name: "a body that rejects passes its error on and leaves nothing",
    async run({ blobs }) {
      const failure = new Error("the source broke");
      const body = async function* () {
        yield bytesFor(3 * MIB);
        throw failure;
      };
      await expect(blobs.put("blob", body(), { sizeMax })).rejects.toBe(failure);
      expect(await blobs.stat("blob")).toBeNull();
      return [];
    },
  },
  {
    name: "a body that rejects leaves the earlier bytes as they were",
    async run({ blobs }) {
      const bytes = bytesFor(MIB + 1);
      await putBytes(blobs, "blob", bytes);
      const body = async function* () {
        yield bytesFor(3 * MIB, 2);
        throw new Error("the source broke");
      };
      await expect(blobs.put("blob", body(), { sizeMax })).rejects.toThrow("the source broke");
      expectSame(await contentOf(blobs, "blob"), bytes);
      return ["blob"];
    },
  },
  {
    name: "put accepts exactly sizeMax bytes",
    async run({ blobs }) {
      await blobs.put("blob", chunked(bytesFor(70_000)), { sizeMax: 70_000 });
      await blobs.put("none", chunked(bytesFor(0)), { sizeMax: 0 });
      return ["blob", "none"];
    },
  },
  {
    name: "one byte more than sizeMax is too_large, and nothing has changed",
    async run({ blobs }) {
      const bytes = bytesFor(1_000);
      await putBytes(blobs, "old", bytes);
      for (const [key, size] of [
        ["old", 70_000],
        ["new", 70_000],
        ["new", 2 * MIB],
      ] as const) {
        const body = chunked(bytesFor(size + 1, 2));
        expect(await codeOf(blobs.put(key, body, { sizeMax: size }))).toBe("too_large");
      }
      expectSame(await contentOf(blobs, "old"), bytes);
      expect(await blobs.stat("new")).toBeNull();
      return ["old"];
    },
  },
  {
    name: "a body that is too large is closed, not read to its end",
    async run({ blobs }) {
      let yielded = 0;
      let isClosed = false;
      const endless = async function* () {
        try {
          for (;;) {
            yielded++;
            yield bytesFor(10_000);
          }
        } finally {
          isClosed = true;
        }
      };
      expect(await codeOf(blobs.put("blob", endless(), { sizeMax: 1_000_000 }))).toBe("too_large");
      expect(isClosed).toBe(true);
      // What a driver may read ahead is its own affair, within reason.
      expect(yielded).toBeLessThan(2_000);
      return [];
    },
  },
  {
    name: "put with an aborted signal rejects with its reason and reads nothing",
    async run({ blobs }) {
      const reason = new Error("no longer wanted");
      let isAsked = false;
      const body = async function* () {
        isAsked = true;
        yield bytesFor(1);
      };
      await expect(blobs.put("blob", body(), { sizeMax, signal: AbortSignal.abort(reason) })).rejects.toBe(
        reason,
      );
      expect(isAsked).toBe(false);
      return [];
    },
  },
  {
    name: "a put that is aborted while its source is silent rejects and leaves nothing",
    async run({ blobs }) {
      const controller = new AbortController();
      const body = async function* () {
        yield bytesFor(2 * MIB);
        setImmediate(() => controller.abort(new Error("no longer wanted")));
        await new Promise(() => {}); // never
      };
      const putting = blobs.put("blob", body(), { sizeMax, signal: controller.signal });
      await expect(putting).rejects.toThrow("no longer wanted");
      expect(await blobs.stat("blob")).toBeNull();
      return [];
    },
  },
  {
    name: "a put whose signal is aborted after it has resolved stays",
    async run({ blobs }) {
      const controller = new AbortController();
      await blobs.put("blob", chunked(bytesFor(10)), { sizeMax, signal: controller.signal });
      controller.abort();
      expectSame(await contentOf(blobs, "blob"), bytesFor(10));
      return ["blob"];
    },
  },
  {
    name: "sixteen puts at once to one key leave one of them, whole",
    async run({ blobs }) {
      const all = Array.from({ length: 16 }, (_, i) => bytesFor(MIB - 8 + i, i + 1));
      await Promise.all(all.map((bytes) => putBytes(blobs, "blob", bytes)));
      const digest = digestOf((await contentOf(blobs, "blob"))!);
      expect(all.map(digestOf)).toContain(digest);
      expect(await blobs.digest("blob")).toMatchObject({ digest });
      const info = await blobs.stat("blob");
      expect([digest, null]).toContain(info?.digest);
      return ["blob"];
    },
  },
  {
    name: "puts at once to many keys in many folders all arrive",
    async run({ blobs }) {
      const keys = Array.from({ length: 40 }, (_, i) => `f${i % 5}/g${i % 3}/k${i}`);
      await Promise.all(keys.map((key, i) => putBytes(blobs, key, bytesFor(1_000 + i, i))));
      for (const [i, key] of keys.entries()) expectSame(await contentOf(blobs, key), bytesFor(1_000 + i, i));
      return keys;
    },
  },
  {
    name: "keys may use the whole alphabet",
    async run({ blobs }) {
      const keys = [
        "A-Z_a.z/0.9",
        "x",
        "_",
        `long/${"k".repeat(200)}`,
        "a/b/c/d/e/f/g/h/i/j",
        "a..b/c.",
        "CON/nul.txt",
      ];
      for (const [i, key] of keys.entries()) await putBytes(blobs, key, bytesFor(10, i));
      for (const [i, key] of keys.entries()) expectSame(await contentOf(blobs, key), bytesFor(10, i));
      return keys;
    },
  },
  {
    name: "no method takes a key that could leave its place",
    async run({ blobs }) {
      const bad = [
        "",
        "/",
        "/etc/passwd",
        "../up",
        "a/../b",
        "a/..",
        ".",
        "..",
        "a//b",
        "a/",
        "./a",
        "a b",
        "a\0b",
      ];
      bad.push("a\\b", "ä", "a\nb", "%2e%2e/a", "a?b", "a#b", "~root", "C:a", "k".repeat(5_000));
      const calls: ((key: string) => Promise<unknown>)[] = [
        (key) => blobs.put(key, chunked(bytesFor(1)), { sizeMax }),
        (key) => blobs.get(key),
        (key) => blobs.stat(key),
        (key) => blobs.digest(key),
        (key) => blobs.copy(key, "ok", { size: 1, digest: digestOf(bytesFor(1)) }),
        (key) => blobs.copy("ok", key, { size: 1, digest: digestOf(bytesFor(1)) }),
        (key) => blobs.delete(key),
        (key) => blobs.signPut(key, forPut()),
        (key) => blobs.signGet(key, forGet(bytesFor(1))),
      ];
      await putBytes(blobs, "ok", bytesFor(1));
      for (const key of bad) {
        for (const call of calls) {
          const outcome = await call(key).then(
            () => "accepted",
            (error: unknown) => error,
          );
          expect([key, outcome]).toEqual([key, expect.any(TypeError)]);
        }
      }
      return ["ok"];
    },
  },
];

function agreesOn(size: number): BlobCase {
  return {
    name: `put, get, stat and digest agree on ${size} bytes`,
    async run({ blobs }, { attests }) {
      const bytes = bytesFor(size);
      const digest = digestOf(bytes);
      expect(await blobs.put("a/blob", chunked(bytes), { sizeMax })).toEqual({ size, digest });
      const got = await blobs.get("a/blob");
      expect(got.size).toBe(size);
      expectSame(await collect(got.body), bytes);
      const info = await blobs.stat("a/blob");
      expect(info?.size).toBe(size);
      expect(attests ? [digest] : [digest, null]).toContain(info?.digest);
      expect(await blobs.digest("a/blob")).toEqual({ size, digest });
      return ["a/blob"];
    },
  };
}

function followsReplacement(from: number, to: number): BlobCase {
  return {
    name: `stat and get follow when ${to} bytes replace ${from}`,
    async run({ blobs }, { attests }) {
      await putBytes(blobs, "blob", bytesFor(from));
      const after = bytesFor(to, 2);
      await putBytes(blobs, "blob", after);
      expectSame(await contentOf(blobs, "blob"), after);
      const info = await blobs.stat("blob");
      expect(info?.size).toBe(to);
      expect(attests ? [digestOf(after)] : [digestOf(after), null]).toContain(info?.digest);
      return ["blob"];
    },
  };
}
