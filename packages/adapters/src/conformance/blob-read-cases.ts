/**
 * Conformance cases about reading, attesting and listing blobs, and about the life of a store.
 * Run by `blob-store.ts`.
 */

import type { BlobStore } from "@docyard/core";
import { expect } from "vitest";
import type { BlobCase } from "./blob-case.ts";
import {
  bytesFor,
  chunked,
  codeOf,
  collect,
  digestOf,
  expectSame,
  forGet,
  forPut,
  MIB,
  putBytes,
} from "./blob-case.ts";

const sizeMax = 64 * MIB;

export const READ_CASES: readonly BlobCase[] = [
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
      type Always = Exclude<keyof BlobStore, "close" | "dropUnfinished" | "serve" | "space">;
      const calls: Record<Always, () => Promise<unknown>> = {
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
