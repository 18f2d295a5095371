/**
 * Laws of pages: whatever the limit, offsets and cursors cut the same list into the same rows; a walk by cursor neither
 * repeats nor loses an old row while new ones arrive. Run on the functions of `page.ts` and through the front door.
 */
import type { Artifact, ArtifactSummary, Position } from "@docyard/core";
import {
  clampLimit,
  compareNewestFirst,
  decodeCursor,
  encodeCursor,
  isDocyardError,
  PAGE_LIMIT_DEFAULT,
  PAGE_LIMIT_MAX,
  pageNumbers,
} from "@docyard/core";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";

import { artifactRow, NOON } from "./rows.ts";
import { createWorld } from "./world.ts";

const id = fc
  .string({
    unit: fc.constantFrom(...Array.from("0123456789ABCDEFGHJKMNPQRSTVWXYZ")),
    minLength: 1,
    maxLength: 26,
  })
  .map((text) => `art_${text}`);
const position: fc.Arbitrary<Position> = fc.record({
  createdAt: fc.oneof(fc.nat(5), fc.nat(8_640_000_000_000_000)),
  id: fc.oneof(id, fc.constantFrom("a", "b", "-", "_")),
});

describe("compareNewestFirst", () => {
  test("is a strict total order, newest first, ids breaking ties", () => {
    fc.assert(
      fc.property(position, position, position, (a, b, c) => {
        const sign = (x: Position, y: Position): number => Math.sign(compareNewestFirst(x, y));
        expect(sign(a, a)).toBe(0);
        expect(sign(a, b)).toBe(0 - sign(b, a));
        expect(sign(a, b) === 0).toBe(a.createdAt === b.createdAt && a.id === b.id);
        if (sign(a, b) <= 0 && sign(b, c) <= 0) expect(sign(a, c)).toBeLessThanOrEqual(0);
        if (a.createdAt > b.createdAt) expect(sign(a, b)).toBe(-1);
      }),
    );
  });
});

describe("cursors", () => {
  test("come back as the position they were made of, and may stand in a URL", () => {
    fc.assert(
      fc.property(position, (position) => {
        const cursor = encodeCursor(position);
        expect(decodeCursor(cursor)).toEqual(position);
        expect(encodeURIComponent(cursor)).toBe(cursor);
      }),
    );
  });

  test("any text is a cursor of ours or invalid_argument", () => {
    const base64ish = fc.string({
      unit: fc.constantFrom(...Array.from("MTIzNDU2Nzg5OmFydF8=-_+/ \n\t")),
      maxLength: 40,
    });
    const coded = fc.string({ unit: "binary-ascii" }).map((text) => btoa(text));
    const near = fc
      .tuple(position, fc.nat(60), fc.constantFrom("", " ", "=", "A", "\n", "é", "\0"))
      .map(([position, at, extra]) => {
        const cursor = encodeCursor(position);
        return cursor.slice(0, at) + extra + cursor.slice(at);
      });
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: "binary" }), base64ish, coded, near), (text) => {
        const position = decoded(text);
        // One position, one spelling: a cursor that is not ours cannot stand for one that is.
        if (position !== null) expect(encodeCursor(position)).toBe(text);
      }),
      { numRuns: 3_000 },
    );
  });

  const spelled = (text: string): string =>
    btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

  test.each([
    ["nothing", ""],
    ["no base64", "!!!!"],
    ["padding", `${encodeCursor({ createdAt: 1, id: "art_1" })}=`],
    ["white space", ` ${encodeCursor({ createdAt: 1, id: "art_1" })}`],
    ["a line feed", `${encodeCursor({ createdAt: 1, id: "art_1" })}\n`],
    ["no id", spelled("5:")],
    ["no time", spelled(":art_1")],
    ["no colon", spelled("5art_1")],
    ["two colons", spelled("5:6:art_1")],
    ["a negative time", spelled("-5:art_1")],
    ["a fraction", spelled("5.5:art_1")],
    ["an exponent", spelled("5e5:art_1")],
    ["leading zeros", spelled("0005:art_1")],
    ["a time beyond exact integers", spelled("9999999999999999:art_1")],
    ["a very long time", spelled(`${"9".repeat(400)}:art_1`)],
    ["a space in the id", spelled("5:art 1")],
    ["a quote in the id", spelled("5:art'1")],
    ["NUL in the id", spelled("5:art_\0")],
    ["an id that is too long", spelled(`5:${"a".repeat(65)}`)],
    ["a megabyte", "A".repeat(1_000_000)],
    ["JSON", spelled(`{"createdAt":5,"id":"art_1"}`)],
  ])("%s is refused", (_, cursor) => {
    expect(decoded(cursor)).toBeNull();
  });
});

describe("pageNumbers", () => {
  test("counts pages from 1 and names the next cursor exactly while there is more", () => {
    fc.assert(
      fc.property(fc.nat(5_000), fc.integer({ min: 1, max: 1_000 }), fc.boolean(), (offset, limit, more) => {
        const last = { createdAt: 7, id: "art_7" };
        const page = pageNumbers({ offset }, limit, { rows: [last], total: 9, more });
        expect(page.page).toBe(Math.floor(offset / limit) + 1);
        expect(page.pageSize).toBe(limit);
        expect(page.total).toBe(9);
        expect(page.hasMore).toBe(more);
        expect(page.nextCursor).toBe(more ? encodeCursor(last) : null);
      }),
    );
  });

  test("an empty page ends the walk", () => {
    expect(pageNumbers({ offset: 50 }, 20, { rows: [], total: 3, more: false })).toEqual({
      page: 3,
      pageSize: 20,
      total: 3,
      hasMore: false,
      nextCursor: null,
    });
  });

  test("limits are clamped at the top only", () => {
    expect(clampLimit(PAGE_LIMIT_MAX + 1)).toBe(PAGE_LIMIT_MAX);
    expect(clampLimit(Number.MAX_SAFE_INTEGER)).toBe(PAGE_LIMIT_MAX);
    expect(clampLimit(1)).toBe(1);
  });
});

describe("lists through the front door", () => {
  /** Few distinct times, so that most rows tie and ids must decide. */
  const times = fc.array(fc.nat(4), { maxLength: 40 });

  const seeded = async (times: readonly number[]) => {
    const world = await createWorld();
    const rows: Artifact[] = [];
    const add = async (createdAt: number): Promise<Artifact> => {
      const row = completedRow(rows.length, NOON + createdAt);
      await world.store.artifacts.insert(row, { type: "artifact.created", at: NOON, by: null });
      rows.push(row);
      return row;
    };
    for (const time of times) await add(time);
    return { add, rows, reader: await world.reader("dock_a"), writer: await world.writer("dock_a") };
  };

  test("pages by offset and by cursor are the whole list, in order, for any limit", async () => {
    await fc.assert(
      fc.asyncProperty(times, fc.integer({ min: 1, max: 45 }), async (times, limit) => {
        const { rows, reader } = await seeded(times);
        const expected = rows.toSorted(compareNewestFirst).map((row) => row.id);

        const byOffset: string[] = [];
        for (let offset = 0; offset <= expected.length; offset += limit) {
          const { items, page } = await reader.list({ limit, offset });
          byOffset.push(...items.map(({ artifact }) => artifact.id));
          expect(page.total).toBe(expected.length);
          expect(page.hasMore).toBe(offset + limit < expected.length);
          expect(page.page).toBe(offset / limit + 1);
        }
        expect(byOffset).toEqual(expected);

        const byCursor: string[] = [];
        let cursor: string | null = null;
        do {
          const { items, page } = await reader.list({ limit, ...(cursor === null ? {} : { cursor }) });
          byCursor.push(...items.map(({ artifact }) => artifact.id));
          expect(page.total).toBe(expected.length);
          expect(page.hasMore).toBe(page.nextCursor !== null);
          cursor = page.nextCursor;
        } while (cursor !== null);
        expect(byCursor).toEqual(expected);
      }),
      { numRuns: 150 },
    );
  });

  test("a walk by cursor shows every old row exactly once while rows arrive and go", async () => {
    const arrivals = fc.array(fc.array(fc.nat(6), { maxLength: 3 }), { maxLength: 10 });
    await fc.assert(
      fc.asyncProperty(
        times,
        arrivals,
        fc.array(fc.nat(100), { maxLength: 10 }),
        fc.integer({ min: 1, max: 7 }),
        async (times, arrivals, removals, limit) => {
          const { add, rows, reader, writer } = await seeded(times);
          const old = rows.map((row) => row.id);
          const removed = new Set<string>();
          const shown: ArtifactSummary[] = [];
          let cursor: string | null = null;
          for (let round = 0; ; round++) {
            const { items, page } = await reader.list({ limit, ...(cursor === null ? {} : { cursor }) });
            shown.push(...items.map(({ artifact }) => artifact));
            cursor = page.nextCursor;
            if (cursor === null) break;
            for (const time of arrivals[round] ?? []) await add(time);
            const gone = old[(removals[round] ?? 1_000) % Math.max(old.length, 1)];
            if (gone !== undefined && removals[round] !== undefined && !removed.has(gone)) {
              removed.add(gone);
              await writer.remove(gone);
            }
          }
          const ids = shown.map((row) => row.id);
          expect(new Set(ids).size).toBe(ids.length);
          expect(shown).toEqual(shown.toSorted(compareNewestFirst));
          for (const id of old) if (!removed.has(id)) expect(ids).toContain(id);
        },
      ),
      { numRuns: 150 },
    );
  });

  test("the default page has 20 rows, the largest 1000", async () => {
    const { reader } = await seeded(Array.from({ length: 1_003 }, () => 0));
    const usual = await reader.list({});
    expect(usual.items).toHaveLength(PAGE_LIMIT_DEFAULT);
    expect(usual.page).toMatchObject({ page: 1, pageSize: PAGE_LIMIT_DEFAULT, total: 1_003, hasMore: true });
    const largest = await reader.list({ limit: 5_000 });
    expect(largest.items).toHaveLength(PAGE_LIMIT_MAX);
    expect(largest.page).toMatchObject({ pageSize: PAGE_LIMIT_MAX, hasMore: true });
    const rest = await reader.list({ limit: 5_000, cursor: largest.page.nextCursor! });
    expect(rest.items).toHaveLength(3);
    expect(rest.page.nextCursor).toBeNull();
  });

  test.each([
    { limit: 0 },
    { limit: -1 },
    { limit: 1.5 },
    { limit: Number.NaN },
    { limit: Number.POSITIVE_INFINITY },
    { offset: -1 },
    { offset: 0.5 },
    { offset: Number.NaN },
    { offset: 2 ** 60 },
    { cursor: "" },
    { cursor: "nonsense" },
    { cursor: encodeCursor({ createdAt: 1, id: "art_1" }), offset: 0 },
    { statuses: [] },
  ])("%j is refused", async (input) => {
    const { reader } = await seeded([]);
    await expect(reader.list(input)).rejects.toSatisfy((error) => isDocyardError(error, "invalid_argument"));
  });

  test("an offset far beyond the end is an empty page that still counts", async () => {
    const { reader } = await seeded([1, 2, 3]);
    const { items, page } = await reader.list({ offset: Number.MAX_SAFE_INTEGER });
    expect(items).toEqual([]);
    expect(page).toMatchObject({ total: 3, hasMore: false, nextCursor: null });
  });
});

/** Distinct content and id for each number; bytes are not needed to be listed. */
function completedRow(number: number, createdAt: number): Artifact {
  // Neither ascending nor descending with time: ties must be broken by the id, not by arrival.
  const id = `art_${String((number * 7_919) % 100_003).padStart(6, "0")}`;
  const digest = number.toString(16).padStart(64, "0");
  const row = artifactRow({ id, createdAt, status: "upload_completed", size: 1, digest });
  return { ...row, blobKey: `${row.storageKey}-${digest}` };
}

function decoded(cursor: string): Position | null {
  try {
    return decodeCursor(cursor);
  } catch (error) {
    if (isDocyardError(error, "invalid_argument")) return null;
    throw error;
  }
}
