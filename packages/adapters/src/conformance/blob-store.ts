/**
 * The conformance suite of the `BlobStore` port: every sentence of its contract as a named case, for any driver.
 * Cases about signed URLs are in `blob-urls.ts`; how a driver keeps its bytes is its own affair and its own tests'.
 */

import type { BlobStore } from "@docyard/core";
import { describe, expect, test } from "vitest";
import type { BlobCase, BlobStoreTraits, OpenBlobs } from "./blob-case.ts";
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
import { URL_CASES } from "./blob-urls.ts";

export type { BlobStoreTraits, NotingHost, OpenBlobs } from "./blob-case.ts";
export { permissiveHost, redeemBy } from "./blob-case.ts";

/** Runs the suite; `open` is called once per case and must give an empty store. */
export function testBlobStore(name: string, open: () => Promise<OpenBlobs>, traits: BlobStoreTraits): void {
  describe(`${name} keeps the BlobStore contract`, () => {
    test.for(casesFor(traits))("$name", async ({ run }) => {
      const opened = await open();
      try {
        const left = await run(opened, traits);
        expect((await opened.leftovers()).sort()).toEqual([...left].sort());
      } finally {
        await opened.close();
      }
    });
  });
}

function casesFor(traits: BlobStoreTraits): BlobCase[] {
  return [...CASES, ...URL_CASES].filter(({ when }) => when === undefined || when(traits));
}

const sizeMax = 64 * MIB;

const CASES: readonly BlobCase[] = [
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
  {
    name: "get of a missing key is not_found before the first chunk",
    async run({ blobs }) {
      expect(await codeOf(blobs.get("none"))).toBe("not_found");
      expect(await codeOf(blobs.get("none", { range: { start: 0, end: 0 } }))).toBe("not_found");
      await putBytes(blobs, "folder/blob", bytesFor(1));
      expect(await codeOf(blobs.get("folder"))).toBe("not_found");
      return ["folder/blob"];
    },
  },
  {
    name: "every range agrees with a slice of the bytes",
    async run({ blobs }) {
      const size = 2 * MIB + 100;
      const bytes = bytesFor(size);
      await putBytes(blobs, "blob", bytes);
      const edges = [0, 1, 99, MIB - 1, MIB, MIB + 1, 2 * MIB - 1, 2 * MIB, 2 * MIB + 1, size - 1, size];
      for (const start of edges) {
        for (const end of edges.filter((end) => end >= start)) {
          const got = await blobs.get("blob", { range: { start, end } });
          expect(got.size).toBe(size);
          expectSame(await collect(got.body), bytes.subarray(start, end));
        }
      }
      return ["blob"];
    },
  },
  {
    name: "a range that does not lie within the blob is a programmer's mistake",
    async run({ blobs }) {
      await putBytes(blobs, "blob", bytesFor(100));
      for (const [start, end] of [
        [0, 101],
        [-1, 10],
        [50, 40],
        [101, 101],
        [0.5, 10],
        [Number.NaN, 10],
      ] as const) {
        await expect(blobs.get("blob", { range: { start, end } })).rejects.toBeInstanceOf(RangeError);
      }
      return ["blob"];
    },
  },
  {
    name: "a reader may stop early, and others read on",
    async run({ blobs }) {
      const bytes = bytesFor(5 * MIB);
      await putBytes(blobs, "blob", bytes);
      const readers = Array.from({ length: 8 }, async (_, i) => {
        const { body } = await blobs.get("blob");
        if (i % 2 === 0) {
          for await (const chunk of body) {
            expectSame(chunk, bytes.subarray(0, chunk.byteLength));
            break;
          }
        } else {
          expectSame(await collect(body), bytes);
        }
      });
      await Promise.all(readers);
      return ["blob"];
    },
  },
  {
    name: "get stops when its signal aborts",
    async run({ blobs }) {
      await putBytes(blobs, "blob", bytesFor(6 * MIB));
      await expect(blobs.get("blob", { signal: AbortSignal.abort(new Error("enough")) })).rejects.toThrow(
        "enough",
      );
      const controller = new AbortController();
      const { body } = await blobs.get("blob", { signal: controller.signal });
      let seen = 0;
      const reading = (async () => {
        for await (const chunk of body) {
          seen += chunk.byteLength;
          controller.abort(new Error("enough"));
        }
      })();
      await expect(reading).rejects.toThrow("enough");
      expect(seen).toBeLessThan(6 * MIB);
      return ["blob"];
    },
  },
  {
    name: "stat and digest of a missing key are null",
    async run({ blobs }) {
      expect(await blobs.stat("none")).toBeNull();
      expect(await blobs.digest("none")).toBeNull();
      await putBytes(blobs, "folder/blob", bytesFor(1));
      expect(await blobs.stat("folder")).toBeNull();
      expect(await blobs.digest("folder")).toBeNull();
      expect(await blobs.stat("folder/blob/under")).toBeNull();
      return ["folder/blob"];
    },
  },
  {
    name: "digest stops when its signal aborts",
    async run({ blobs }) {
      await putBytes(blobs, "blob", bytesFor(2 * MIB));
      const signal = AbortSignal.abort(new Error("enough"));
      await expect(blobs.digest("blob", { signal })).rejects.toThrow("enough");
      return ["blob"];
    },
  },
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
    name: "list sorts by code units across folders",
    async run({ blobs }) {
      const keys = ["B", "a", "a-b", "a.b", "a/b", "a/b-c", "a/b/c", "a0", "a_b", "aB", "b/1", "b/10", "b/2"];
      const possible = keys.filter((key) => key !== "a" && key !== "a/b");
      for (const key of possible.toReversed()) await putBytes(blobs, key, bytesFor(1));
      const listed = await blobs.list("", { limit: 100 });
      expect(listed.map(({ key }) => key)).toEqual([...possible].sort((a, b) => (a < b ? -1 : 1)));
      return possible;
    },
  },
  {
    name: "list gives keys with a prefix, which may end inside a name",
    async run({ blobs }) {
      const keys = ["docks/d1/x", "docks/d1/y/z", "docks/d10/x", "docks/d2/x", "dock", "incoming/u1"];
      for (const key of keys) await putBytes(blobs, key, bytesFor(1));
      const list = async (prefix: string): Promise<string[]> =>
        (await blobs.list(prefix, { limit: 100 })).map(({ key }) => key);
      expect(await list("docks/d1")).toEqual(["docks/d1/x", "docks/d1/y/z", "docks/d10/x"]);
      expect(await list("docks/d1/")).toEqual(["docks/d1/x", "docks/d1/y/z"]);
      expect(await list("dock")).toEqual(["dock", "docks/d1/x", "docks/d1/y/z", "docks/d10/x", "docks/d2/x"]);
      expect(await list("docks/d1/x")).toEqual(["docks/d1/x"]);
      expect(await list("nothing/")).toEqual([]);
      expect(await list("docks/d1/x/")).toEqual([]);
      expect(await list("../")).toEqual([]);
      return keys;
    },
  },
  {
    name: "pages of list concatenate to the whole, whatever the limit",
    async run({ blobs }) {
      const keys = Array.from({ length: 23 }, (_, i) => `p/${i % 4}/${i}`);
      for (const key of keys) await putBytes(blobs, key, bytesFor(1));
      const whole = keys.sort((a, b) => (a < b ? -1 : 1));
      for (const limit of [1, 2, 7, 22, 23, 24]) {
        const walked: string[] = [];
        for (let after: string | undefined; ;) {
          const page = await blobs.list("p/", { limit, ...(after === undefined ? {} : { after }) });
          expect(page.length).toBeLessThanOrEqual(limit);
          if (page.length === 0) break;
          walked.push(...page.map(({ key }) => key));
          after = page.at(-1)!.key;
        }
        expect(walked).toEqual(whole);
      }
      expect(await blobs.list("p/", { after: "p/2", limit: 1 })).toMatchObject([{ key: "p/2/10" }]);
      expect(await blobs.list("p/", { after: "q", limit: 1 })).toEqual([]);
      return keys;
    },
  },
  {
    name: "list tells size and time of each blob",
    async run({ blobs }) {
      const before = Date.now();
      await putBytes(blobs, "small", bytesFor(3));
      await putBytes(blobs, "large", bytesFor(MIB + 1));
      const listed = await blobs.list("", { limit: 10 });
      expect(listed.map(({ key, size }) => [key, size])).toEqual([
        ["large", MIB + 1],
        ["small", 3],
      ]);
      for (const { modifiedAt } of listed) {
        expect(Number.isSafeInteger(modifiedAt)).toBe(true);
        // Stores keep time by clocks of their own, some in whole seconds.
        expect(Math.abs(modifiedAt - before)).toBeLessThan(3_600_000);
      }
      return ["large", "small"];
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
  {
    name: "ready resolves on a store that works, and leaves nothing",
    async run({ blobs }) {
      await blobs.ready();
      await blobs.ready();
      return [];
    },
  },
  {
    name: "after close every call rejects, and close may be repeated",
    async run({ blobs }) {
      await putBytes(blobs, "blob", bytesFor(10));
      await blobs.delete("blob");
      await blobs.close();
      await blobs.close();
      const calls: Record<Exclude<keyof BlobStore, "close" | "serve">, () => Promise<unknown>> = {
        put: () => blobs.put("blob", chunked(bytesFor(1)), { sizeMax }),
        get: () => blobs.get("blob"),
        stat: () => blobs.stat("blob"),
        digest: () => blobs.digest("blob"),
        copy: () => blobs.copy("blob", "b", { size: 1, digest: digestOf(bytesFor(1)) }),
        delete: () => blobs.delete("blob"),
        list: () => blobs.list("", { limit: 1 }),
        signPut: () => blobs.signPut("blob", forPut()),
        signGet: () => blobs.signGet("blob", forGet(bytesFor(1))),
        ready: () => blobs.ready(),
      };
      for (const call of Object.values(calls)) await expect(call()).rejects.toThrow(/closed/);
      return [];
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
