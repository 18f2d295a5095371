/** The conformance cases of `due`: part of the `ArtifactStore` suite. What is urgent, and what is done, is the sweep's. */

import type { ArtifactStatus } from "@docyard/core";
import { ARTIFACT_STATUSES } from "@docyard/core";
import { expect } from "vitest";
import type { StoreCase } from "./store-case.ts";
import { event, insertAll, row } from "./store-case.ts";

export const DUE_CASES: readonly StoreCase[] = [
  {
    name: "due finds a status's rows of any dock at or before a moment, longest due first, ids break ties",
    async run({ store }) {
      const { artifacts } = store;
      for (const [s, status] of ARTIFACT_STATUSES.entries()) {
        const dueAts = [50, 10, null, 30, 31, 20, 20];
        await insertAll(
          store,
          dueAts.map((dueAt, i) => row(10 * s + i, { dueAt, status, dockId: `dock_${i}` })),
        );
      }
      for (const [s, status] of ARTIFACT_STATUSES.entries()) {
        const found = async (until: number, limit = 10): Promise<string[]> =>
          (await artifacts.due({ status, until, limit })).map(({ id }) => id);
        const [late, first, , third, , second, twin] = Array.from(
          { length: 7 },
          (_, i) => row(10 * s + i).id,
        );
        expect(await found(30)).toEqual([first, second, twin, third]);
        expect(await found(30, 2)).toEqual([first, second]);
        expect(await found(9)).toEqual([]);
        expect((await found(50)).at(-1)).toBe(late);
        const [whole] = await artifacts.due({ status, until: 10, limit: 1 });
        expect(whole).toEqual(await artifacts.get({ id: first! }));
      }
    },
  },
  {
    name: "due goes on behind a place, whether or not its row is still there",
    async run({ store: { artifacts } }) {
      const status = "deleted";
      for (const [i, dueAt] of [10, 20, 20, 20, 30].entries()) {
        await artifacts.insert(row(i, { dueAt, status }), event());
      }
      const behind = async (dueAt: number, n: number): Promise<string[]> => {
        const after = { dueAt, id: row(n).id };
        return (await artifacts.due({ status, until: 30, after, limit: 10 })).map(({ id }) => id);
      };
      expect(await behind(10, 0)).toEqual([1, 2, 3, 4].map((n) => row(n).id));
      expect(await behind(20, 2)).toEqual([3, 4].map((n) => row(n).id));
      await artifacts.update(row(2).id, 1, { dueAt: null }, null);
      expect(await behind(20, 2)).toEqual([3, 4].map((n) => row(n).id));
      expect(await behind(20, 9)).toEqual([row(4).id]);
      expect(await behind(30, 4)).toEqual([]);
    },
  },
  {
    name: "due follows updates",
    async run({ store: { artifacts } }) {
      await artifacts.insert(row(1, { dueAt: 10 }), event());
      await artifacts.update(row(1).id, 1, { dueAt: 20 }, null);
      const due = async (status: ArtifactStatus, until: number): Promise<number> =>
        (await artifacts.due({ status, until, limit: 10 })).length;
      expect(await due("created", 19)).toBe(0);
      expect(await due("created", 20)).toBe(1);
      await artifacts.update(row(1).id, 2, { status: "upload_failed", dueAt: 30 }, event());
      expect(await due("created", Number.MAX_SAFE_INTEGER)).toBe(0);
      expect(await due("upload_failed", 29)).toBe(0);
      expect(await due("upload_failed", 30)).toBe(1);
      await artifacts.update(row(1).id, 3, { dueAt: null }, event());
      expect(await due("upload_failed", Number.MAX_SAFE_INTEGER)).toBe(0);
    },
  },
];
