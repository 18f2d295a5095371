/**
 * The cases of the `ArtifactStore` suite about `find`: order, pages, cursors, and every parameter alone and together.
 * Random questions are asked by the agreement tests.
 */

import type { Artifact, FindQuery, Filter, Position, Source, Store } from "@docyard/core";
import {
  ARTIFACT_STATUSES,
  compareNewestFirst,
  foldName,
  FRAGMENTS_MAX,
  LOCATION_LENGTH_MAX,
  match,
  parseJson,
  summaryOf,
  VISIBLE_STATUSES,
} from "@docyard/core";
import { expect } from "vitest";
import type { StoreCase } from "./store-case.ts";
import {
  completed,
  DOCK,
  event,
  HOSTILE_METADATA,
  HOSTILE_NAMES,
  idsFound,
  insertAll,
  query,
  row,
} from "./store-case.ts";

const idOf = (number: number): string => row(number).id;
const count = (length: number): number[] => Array.from({ length }, (_, i) => i);

/** All pages of a cursor walk. */
async function walk(store: Store, over: Partial<FindQuery>, limit: number): Promise<string[]> {
  const ids: string[] = [];
  let start: FindQuery["start"] = { offset: 0 };
  for (;;) {
    const { rows, more } = await store.artifacts.find(query({ ...over, start, limit }));
    ids.push(...rows.map(({ id }) => id));
    if (!more) return ids;
    expect(rows).toHaveLength(limit);
    const { createdAt, id } = rows.at(-1)!;
    start = { after: { createdAt, id } };
  }
}

export const FIND_CASES: readonly StoreCase[] = [
  {
    name: "find in an empty dock is empty, wherever it starts",
    async run({ store: { artifacts } }) {
      const starts = [{ offset: 0 }, { offset: 5 }, { after: { createdAt: 1, id: "art_1" } }];
      for (const start of starts) {
        for (const over of [{}, { search: "abc" }, { filter: { a: 1 } }, { statuses: VISIBLE_STATUSES }]) {
          expect(await artifacts.find(query({ start, ...over }))).toEqual({
            rows: [],
            total: 0,
            more: false,
          });
        }
      }
    },
  },
  {
    name: "find tells of rows all that lists show, newest first, and ids break ties",
    async run({ store }) {
      const createdAts = [5, 3, 5, 9, 3, 5, 0];
      const rows = createdAts.map((createdAt, i) => completed(i, { createdAt }));
      await insertAll(store, rows.toReversed());
      const found = await store.artifacts.find(query());
      const summaries = rows.map(summaryOf).sort(compareNewestFirst);
      expect(found).toEqual({ rows: summaries, total: rows.length, more: false });
      expect(found.rows.map(({ id }) => id)).toEqual([3, 5, 2, 0, 4, 1, 6].map(idOf));
    },
  },
  {
    name: "find asked again tells of whatever has happened since",
    async run({ store }) {
      const rows = [completed(1), completed(2), row(3)];
      await insertAll(store, rows);
      const { artifacts } = store;
      const asked = [{}, { filter: {} }, { limit: 1 }, { start: { offset: 1 } }, { search: "" }];
      const expectFound = async (...numbers: number[]): Promise<void> => {
        const found = await Promise.all(numbers.map((number) => artifacts.get({ id: idOf(number) })));
        const all = found.map((artifact) => summaryOf(artifact!)).sort(compareNewestFirst);
        for (const over of asked) {
          const { start, limit } = query(over);
          const from = start.offset!;
          expect(await artifacts.find(query(over))).toEqual({
            rows: all.slice(from, from + limit),
            total: all.length,
            more: from + limit < all.length,
          });
        }
      };
      await expectFound(1, 2);
      await expectFound(1, 2);
      // A change that leaves the row where it is: what guards the next one is its version.
      await artifacts.update(idOf(1), 1, { dueAt: 7 }, null);
      await expectFound(1, 2);
      await artifacts.update(idOf(2), 1, {}, event());
      await expectFound(1, 2);
      const { digest } = completed(3);
      await artifacts.update(idOf(3), 1, { status: "upload_completed", digest, updatedAt: 9 }, event());
      await expectFound(1, 2, 3);
      await artifacts.update(idOf(1), 2, { status: "deleted" }, event());
      await expectFound(2, 3);
      await insertAll(store, [completed(4)]);
      await expectFound(2, 3, 4);
    },
  },
  {
    name: "find tells of a source its kind, however long it is, and get tells all of it",
    async run({ store }) {
      // What takes the most bytes as JSON is no short text either.
      const longest = ["a", "\u0001", "é", "€", "\ud800"].map((char) => char.repeat(LOCATION_LENGTH_MAX));
      const fragment = { source: { kind: "url", url: `http://a.example/${"x".repeat(1_000)}` } } as const;
      const sources: Source[] = [
        { kind: "upload" },
        ...longest.map((url) => ({ kind: "url", url }) as const),
        ...longest.map((s3Path) => ({ kind: "s3", s3Path }) as const),
        ...[1, 40, 60, FRAGMENTS_MAX].map((length) => {
          const fragments = Array.from({ length }, (_, i) => ({ ...fragment, startTime: i }));
          return { kind: "fragments", fragments } as const;
        }),
      ];
      const rows = sources.map((source, i) => completed(i, { source, face: "studio" }));
      await insertAll(store, rows);
      for (const over of [{}, { search: "file" }, { statuses: VISIBLE_STATUSES }]) {
        const found = await store.artifacts.find(query({ face: "studio", ...over }));
        expect(found.rows).toEqual(rows.map(summaryOf).sort(compareNewestFirst));
      }
      for (const row of rows) expect(await store.artifacts.get({ id: row.id })).toEqual(row);
    },
  },
  {
    name: "a page far from both ends is the one that walking there would give, while rows come and go",
    async run({ store }) {
      const HOUR_MS = 3_600_000;
      const rows: Artifact[] = [];
      // Crowded hours, empty ones, and moments that many rows share; other docks and faces in between.
      for (let i = 0; rows.length < 2_600; i++) {
        const createdAt = (i % 7) * 11 * HOUR_MS + Math.floor(i / 40) * 4_000_000 + (i % 3);
        const over = i % 50 === 0 ? { face: "studio" as const } : i % 51 === 0 ? { dockId: "dock_b" } : {};
        rows.push(completed(i, { createdAt, ...over }));
      }
      await store.load(rows.map((artifact) => ({ kind: "artifact", artifact })));
      const listed = rows
        .filter(({ dockId, face }) => dockId === DOCK && face === "machine")
        .sort(compareNewestFirst);
      const expectPages = async (): Promise<void> => {
        for (const offset of [
          0,
          999,
          1_000,
          1_200,
          1_249,
          1_300,
          1_700,
          listed.length - 1_001,
          listed.length - 3,
        ]) {
          const {
            rows: page,
            total,
            more,
          } = await store.artifacts.find(query({ start: { offset }, limit: 7 }));
          expect(page.map(({ id }) => id)).toEqual(listed.slice(offset, offset + 7).map(({ id }) => id));
          expect({ total, more }).toEqual({ total: listed.length, more: offset + 7 < listed.length });
        }
      };
      await expectPages();
      for (const at of [5, 700, 1_400, 2_000]) {
        const [gone] = listed.splice(at, 1);
        await store.artifacts.update(gone!.id, gone!.version, { status: "deleted" }, event());
        const late = completed(10_000 + at, { createdAt: listed[at]!.createdAt + 1 });
        await store.artifacts.insert(late, event());
        listed.push(late);
        listed.sort(compareNewestFirst);
        await expectPages();
      }
    },
  },
  {
    name: "offset and limit cut every page, with its total and whether more follow",
    async run({ store }) {
      const ids = count(12).map(idOf).toReversed();
      await insertAll(
        store,
        count(12).map((i) => completed(i)),
      );
      for (const offset of count(15)) {
        for (const limit of [1, 3, 12, 1_000]) {
          const { rows, total, more } = await store.artifacts.find(query({ start: { offset }, limit }));
          expect(rows.map(({ id }) => id)).toEqual(ids.slice(offset, offset + limit));
          expect({ total, more }).toEqual({ total: 12, more: offset + limit < 12 });
        }
      }
    },
  },
  {
    name: "a cursor walk gives every row once, ties among them, for every page size",
    async run({ store }) {
      const rows = count(20).map((i) => completed(i, { createdAt: Math.floor(i / 6) }));
      await insertAll(store, rows);
      const ids = [...rows].sort(compareNewestFirst).map(({ id }) => id);
      for (const limit of [1, 2, 5, 10, 19, 20, 21]) expect(await walk(store, {}, limit)).toEqual(ids);
    },
  },
  {
    name: "the total does not depend on where the page starts",
    async run({ store: { artifacts }, store }) {
      await insertAll(
        store,
        count(10).map((i) => completed(i, { metadata: { a: i % 2 } })),
      );
      const { createdAt, id } = completed(4);
      for (const over of [
        {},
        { filter: { a: 0 } },
        { search: "file" },
        { filter: { a: 0 }, search: "file" },
      ]) {
        const { total } = await artifacts.find(query({ ...over, start: { offset: 0 } }));
        expect((await artifacts.find(query({ ...over, start: { after: { createdAt, id } } }))).total).toBe(
          total,
        );
        expect((await artifacts.find(query({ ...over, start: { offset: 99 } }))).total).toBe(total);
      }
    },
  },
  {
    name: "a cursor walk loses and repeats nothing while newer rows arrive",
    async run({ store }) {
      await insertAll(
        store,
        count(30).map((i) => completed(i)),
      );
      const seen: string[] = [];
      let after: Position | undefined;
      for (let more = true, arriving = 100; more; arriving++) {
        const start = after === undefined ? { offset: 0 } : { after };
        const found = await store.artifacts.find(query({ start, limit: 4 }));
        seen.push(...found.rows.map(({ id }) => id));
        const { createdAt, id } = found.rows.at(-1)!;
        after = { createdAt, id };
        more = found.more;
        await store.artifacts.insert(completed(arriving), event());
      }
      expect(seen).toEqual(count(30).map(idOf).toReversed());
    },
  },
  {
    name: "a cursor goes on from a row that has left the list, or never was in it",
    async run({ store: { artifacts }, store }) {
      await insertAll(
        store,
        count(6).map((i) => completed(i)),
      );
      const { createdAt, id } = completed(3);
      await artifacts.update(id, 1, { status: "deleted" }, event());
      for (const after of [
        { createdAt, id },
        { createdAt, id: "art_000002z" },
        { createdAt, id: "art_000009" },
      ]) {
        const { rows, total, more } = await artifacts.find(query({ start: { after }, limit: 2 }));
        expect([rows.map((row) => row.id), total, more]).toEqual([[idOf(2), idOf(1)], 5, true]);
      }
    },
  },
  {
    name: "find shows one dock and one face",
    async run({ store }) {
      const metadata = { a: 1 };
      await insertAll(store, [
        completed(1, { metadata }),
        completed(2, { metadata, dockId: "dock_b" }),
        completed(3, { metadata, face: "studio" }),
        completed(4, { metadata, dockId: "dock_b", face: "studio" }),
      ]);
      for (const over of [{}, { filter: metadata }, { search: "file-" }, { statuses: VISIBLE_STATUSES }]) {
        expect(await idsFound(store, over)).toEqual([idOf(1)]);
        expect(await idsFound(store, { ...over, dockId: "dock_b" })).toEqual([idOf(2)]);
        expect(await idsFound(store, { ...over, face: "studio" })).toEqual([idOf(3)]);
        expect(await idsFound(store, { ...over, dockId: "dock_b", face: "studio" })).toEqual([idOf(4)]);
      }
    },
  },
  {
    name: "find shows the statuses that are asked for, merged in order",
    async run({ store }) {
      const rows = count(20).map((i) =>
        row(i, { status: ARTIFACT_STATUSES[i % 5]!, createdAt: Math.floor(i / 3) }),
      );
      await insertAll(store, rows);
      const wanted = [[0], [1], [2], [3], [0, 2], [1, 3], [2, 3, 1], [0, 1, 2, 3], [2, 2]];
      for (const statuses of wanted.map((some) => some.map((i) => ARTIFACT_STATUSES[i]!))) {
        const ids = rows
          .filter(({ status }) => statuses.includes(status))
          .sort(compareNewestFirst)
          .map(({ id }) => id);
        expect(await idsFound(store, { statuses })).toEqual(ids);
        expect(await walk(store, { statuses }, 3)).toEqual(ids);
        const { rows: page } = await store.artifacts.find(
          query({ statuses, start: { offset: 2 }, limit: 2 }),
        );
        expect(page.map(({ id }) => id)).toEqual(ids.slice(2, 4));
      }
    },
  },
  {
    name: "lists, filters, searches and totals follow a row through its statuses",
    async run({ store }) {
      const metadata = { patientId: "1", tags: ["x", { y: [] }] };
      await insertAll(store, [row(1, { metadata }), completed(2, { metadata })]);
      const questions = [
        {},
        { filter: { patientId: "1" } },
        { filter: { tags: ["x"] } },
        { search: "FILE-0" },
      ];
      const expectAll = async (ids: readonly string[]): Promise<void> => {
        for (const over of questions) expect(await idsFound(store, over)).toEqual(ids);
      };
      await expectAll([idOf(2)]);
      await store.artifacts.update(idOf(1), 1, { status: "upload_completed" }, event());
      await expectAll([idOf(2), idOf(1)]);
      await store.artifacts.update(idOf(2), 1, { status: "deleted" }, event());
      await expectAll([idOf(1)]);
      await store.artifacts.update(idOf(1), 2, { size: 5 }, event());
      await expectAll([idOf(1)]);
      await store.artifacts.update(idOf(1), 3, { status: "deleted" }, event());
      await expectAll([]);
    },
  },
  {
    name: "a row is found as soon as its write has resolved",
    async run({ store }) {
      const readers = count(20).map(async (i) => {
        await store.artifacts.insert(completed(i, { metadata: { i } }), event());
        expect(await idsFound(store, { filter: { i } })).toEqual([idOf(i)]);
        expect(await idsFound(store, { search: row(i).filename })).toEqual([idOf(i)]);
      });
      await Promise.all(readers);
    },
  },
  {
    name: "a page and its total are of one moment while rows come and go",
    async run({ store }) {
      const write = async (from: number): Promise<void> => {
        for (let i = from; i < 60; i += 2) {
          await store.artifacts.insert(completed(i, { metadata: { a: 1 } }), event());
          if (i % 4 === 0) await store.artifacts.update(idOf(i), 1, { status: "deleted" }, event());
        }
      };
      const read = async (): Promise<void> => {
        for (const over of count(30).flatMap(() => [{}, { filter: { a: 1 } }, { search: "file" }])) {
          const { rows, total, more } = await store.artifacts.find(query({ ...over, limit: 1_000 }));
          expect({ total, more }).toEqual({ total: rows.length, more: false });
        }
      };
      await Promise.all([write(0), write(1), read(), read()]);
    },
  },
  {
    name: "mediaType is equality",
    async run({ store }) {
      const kinds = ["video", "audio", "script", null] as const;
      await insertAll(
        store,
        count(8).map((i) =>
          row(i, {
            face: "studio",
            mediaType: kinds[i % 4]!,
            status: i < 4 ? "upload_completed" : "created",
          }),
        ),
      );
      const face = "studio";
      expect(await idsFound(store, { face, mediaType: "audio" })).toEqual([idOf(1)]);
      const statuses = VISIBLE_STATUSES;
      expect(await idsFound(store, { face, mediaType: "video", statuses })).toEqual([idOf(4), idOf(0)]);
      expect(await idsFound(store, { face, mediaType: "script", filter: { a: 1 } })).toEqual([]);
    },
  },
  {
    name: "createdAfter is inclusive and createdBefore exclusive",
    async run({ store }) {
      await insertAll(
        store,
        count(5).map((i) => completed(i, { createdAt: 100 + i, metadata: { a: 1 } })),
      );
      for (const over of [{}, { filter: { a: 1 } }, { search: "file" }, { statuses: VISIBLE_STATUSES }]) {
        const between = (createdAfter: number, createdBefore: number): Promise<string[]> =>
          idsFound(store, { ...over, createdAfter, createdBefore });
        expect(await between(101, 103)).toEqual([2, 1].map(idOf));
        expect(await between(0, 1_000)).toHaveLength(5);
        expect(await between(102, 102)).toEqual([]);
        expect(await between(103, 101)).toEqual([]);
        expect(await idsFound(store, { ...over, createdAfter: 104 })).toEqual([idOf(4)]);
        expect(await idsFound(store, { ...over, createdBefore: 101 })).toEqual([idOf(0)]);
      }
    },
  },
  {
    name: "search finds each odd name by itself, by every part of it and in capitals",
    async run({ store }) {
      const rows = HOSTILE_NAMES.map((filename, i) => completed(i, { filename }));
      await insertAll(store, rows);
      const parts = HOSTILE_NAMES.flatMap((name) => {
        const chars = Array.from(name);
        const cuts = [0, 1, Math.floor(chars.length / 2)];
        return [
          name,
          name.toUpperCase(),
          ...cuts.flatMap((from) => [1, 2, 3, 5].map((n) => chars.slice(from, from + n).join(""))),
        ];
      });
      for (const search of new Set(parts)) {
        const ids = rows
          .filter(({ filename }) => foldName(filename).includes(foldName(search)))
          .map(({ id }) => id);
        expect([search, await idsFound(store, { search })]).toEqual([search, ids.toReversed()]);
      }
    },
  },
  {
    name: "search takes % _ * and quotes literally, and ignores case and composition",
    async run({ store }) {
      const names = [
        "100%.pdf",
        "100x.pdf",
        "a_b",
        "axb",
        'say "hi"',
        "Ésquisse",
        "E\u0301squisse 2",
        "ΣΊΣΥΦΟΣ",
      ];
      await insertAll(
        store,
        names.map((filename, i) => completed(i, { filename })),
      );
      const found: Record<string, number[]> = {
        "%": [0],
        "100%": [0],
        _: [2],
        a_b: [2],
        "*": [],
        "pdf*": [],
        '"hi"': [4],
        '"': [4],
        ésq: [6, 5],
        "e\u0301SQUISSE": [6, 5],
        σίσυφοσ: [7],
        Σίσ: [7],
        pdf: [1, 0],
        "": [7, 6, 5, 4, 3, 2, 1, 0],
        "nothing like this": [],
        ["x".repeat(10_000)]: [],
        "\0": [],
        "p\0df": [],
        "\ud800": [],
      };
      for (const [search, numbers] of Object.entries(found)) {
        expect([search, await idsFound(store, { search })]).toEqual([search, numbers.map(idOf)]);
        const widened = { search, statuses: ["created", "upload_completed"] } as const;
        expect([search, await idsFound(store, widened)]).toEqual([search, numbers.map(idOf)]);
      }
    },
  },
  {
    name: "filter compares type and value",
    async run({ store }) {
      const values = [5, "5", 5.5, true, "true", 1, null, "null", "", 0, false, [], {}, [5], { a: 5 }];
      await insertAll(
        store,
        values.map((value, i) => completed(i, { metadata: { value } })),
      );
      await insertAll(store, [completed(50, { metadata: { other: null } })]);
      const found: [Filter, number[]][] = [
        [{ value: 5 }, [0]],
        [{ value: "5" }, [1]],
        [{ value: true }, [3]],
        [{ value: 1 }, [5]],
        [{ value: null }, [6]],
        [{ value: "" }, [8]],
        [{ value: 0 }, [9]],
        [{ value: false }, [10]],
        [{ value: [] }, [13, 11]],
        [{ value: {} }, [14, 12]],
        [{ value: [5] }, [13]],
        [{ value: { a: 5 } }, [14]],
        [{ value: 6 }, []],
        [{ missing: null }, []],
        [{}, [50, ...values.map((_, i) => i).toReversed()]],
      ];
      for (const [filter, numbers] of found) {
        expect([filter, await idsFound(store, { filter })]).toEqual([filter, numbers.map(idOf)]);
        const { rows, total } = await store.artifacts.find(
          query({ filter, statuses: ["upload_completed", "created"] }),
        );
        expect([rows.map(({ id }) => id), total]).toEqual([numbers.map(idOf), numbers.length]);
      }
    },
  },
  {
    name: "several fields, nested ones too, must all match",
    async run({ store }) {
      const documents = [
        { patientId: "1", type: "letter", address: { city: "Bern", zip: 3000 } },
        { patientId: "1", type: "x-ray", address: { city: "Basel", zip: 4000 } },
        { patientId: "2", type: "letter", address: { city: "Bern" } },
        { patientId: "2", address: "Bern" },
      ];
      await insertAll(
        store,
        documents.map((metadata, i) => completed(i, { metadata })),
      );
      const found: [Filter, number[]][] = [
        [{ patientId: "1" }, [1, 0]],
        [{ patientId: "1", type: "letter" }, [0]],
        [{ address: { city: "Bern" } }, [2, 0]],
        [{ address: { city: "Bern", zip: 3000 }, type: "letter" }, [0]],
        [{ address: {} }, [2, 1, 0]],
        [{ patientId: "1", type: "other" }, []],
        [{ city: "Bern" }, []],
      ];
      for (const [filter, numbers] of found)
        expect(await idsFound(store, { filter })).toEqual(numbers.map(idOf));
    },
  },
  {
    name: "array elements match in any order, and several leaves only within one element",
    async run({ store }) {
      const documents = [
        { list: [{ a: 1, b: 2 }, { a: 3 }] },
        { list: [{ a: 1 }, { b: 2 }] },
        { list: ["x", "y", "x"] },
        { list: [["x", "y"], ["z"]] },
        { list: { a: 1, b: 2 } },
      ];
      await insertAll(
        store,
        documents.map((metadata, i) => completed(i, { metadata })),
      );
      const found: [Filter, number[]][] = [
        [{ list: [{ a: 1, b: 2 }] }, [0]],
        [{ list: [{ b: 2 }, { a: 1 }] }, [1, 0]],
        [{ list: [{ a: 3, b: 2 }] }, []],
        [{ list: ["y", "x"] }, [2]],
        [{ list: ["x", "x", "x"] }, [2]],
        [{ list: ["x", "z"] }, []],
        [{ list: [["y"]] }, [3]],
        [{ list: [["x", "y"]] }, [3]],
        [{ list: [["x", "z"]] }, []],
        [{ list: [["x"], ["z"]] }, [3]],
        [{ list: [] }, [3, 2, 1, 0]],
        [{ list: { a: 1 } }, [4]],
      ];
      for (const [filter, numbers] of found) {
        expect([filter, await idsFound(store, { filter })]).toEqual([filter, numbers.map(idOf)]);
      }
    },
  },
  {
    name: "values and paths longer than an index entry are compared to their end",
    async run({ store }) {
      const long = "x".repeat(200);
      const deep = (leaf: string): Filter =>
        count(25).reduce<Filter>((inner, i) => ({ [`${"k".repeat(40)}${i}`]: inner }), { leaf });
      const documents = [
        { v: `${long}1` },
        { v: `${long}2` },
        { v: long },
        { [`${"k".repeat(900)}1`]: 1 },
        { [`${"k".repeat(900)}2`]: 1 },
        deep("a"),
        deep("b"),
        { v: [`${"x".repeat(126)}\u{1f600}`, `${"x".repeat(126)}\u{20000}`] },
      ];
      await insertAll(
        store,
        documents.map((metadata, i) => completed(i, { metadata })),
      );
      for (const [i, filter] of documents.entries()) {
        expect(await idsFound(store, { filter })).toEqual([idOf(i)]);
        // The page is cut right where rows had to be read to tell.
        const { rows, total, more } = await store.artifacts.find(query({ filter, limit: 1 }));
        expect([rows.length, total, more]).toEqual([1, 1, false]);
      }
      expect(await idsFound(store, { filter: { v: `${long}3` } })).toEqual([]);
    },
  },
  {
    name: "documents with odd keys and values are found by themselves and by each of their members",
    async run({ store }) {
      const documents = HOSTILE_METADATA.map((text) => parseJson(text) as Filter);
      await insertAll(
        store,
        documents.map((metadata, i) => completed(i, { metadata })),
      );
      for (const document of documents) {
        const members = Object.entries(document).map((member) =>
          Object.fromEntries<Filter[string]>([member]),
        );
        for (const filter of [document, ...members]) {
          const ids = documents
            .flatMap((metadata, i) => (match(metadata, filter) ? [idOf(i)] : []))
            .toReversed();
          expect(await idsFound(store, { filter })).toEqual(ids);
        }
      }
    },
  },
  {
    name: "all parameters together mean all of them at once",
    async run({ store }) {
      const rows: Artifact[] = count(96).map((i) =>
        row(i, {
          face: i % 5 === 0 ? "machine" : "studio",
          status: i % 3 === 0 ? "created" : "upload_completed",
          mediaType: i % 2 === 0 ? "video" : "audio",
          metadata: { a: i % 4, tags: ["t", i % 3, { x: i % 2, y: i % 3 }] },
          filename: `${i % 7 === 0 ? "Report" : "Photo"} ${i}`,
          createdAt: Math.floor(i / 4),
        }),
      );
      await insertAll(store, rows);
      const choices: readonly (readonly Partial<FindQuery>[])[] = [
        [{ statuses: ["upload_completed"] }, { statuses: ["created", "upload_completed"] }],
        [{}, { mediaType: "video" }],
        [{}, { filter: { a: 2 } }, { filter: { a: 1, tags: [1] } }, { filter: { tags: [{ x: 1, y: 2 }] } }],
        [{}, { search: "PHOTO" }, { search: "1" }, { search: "report 7" }],
        [{}, { createdAfter: 3 }, { createdBefore: 20 }, { createdAfter: 4, createdBefore: 19 }],
        [
          { start: { offset: 0 } },
          { start: { offset: 3 } },
          { start: { after: { createdAt: 12, id: idOf(50) } } },
        ],
      ];
      for (const over of combinations(choices)) {
        const wanted = query({ face: "studio", limit: 4, ...over });
        const { rows: page, total, more } = await store.artifacts.find(wanted);
        expect({ over, ids: page.map(({ id }) => id), total, more }).toEqual({
          over,
          ...answered(rows, wanted),
        });
      }
    },
  },
];

/** One choice of each, merged: all of them. */
function combinations(choices: readonly (readonly Partial<FindQuery>[])[]): Partial<FindQuery>[] {
  return choices.reduce<Partial<FindQuery>[]>(
    (made, options) => made.flatMap((one) => options.map((option) => ({ ...one, ...option }))),
    [{}],
  );
}

/** The contract read word by word. */
function answered(
  rows: readonly Artifact[],
  wanted: FindQuery,
): { ids: string[]; total: number; more: boolean } {
  const found = rows
    .filter(({ dockId, face, status, mediaType, metadata, filename, createdAt }) => {
      const isInPlace = dockId === wanted.dockId && face === wanted.face && wanted.statuses.includes(status);
      const isOfKind = wanted.mediaType === undefined || mediaType === wanted.mediaType;
      const isInTime =
        createdAt >= (wanted.createdAfter ?? -Infinity) && createdAt < (wanted.createdBefore ?? Infinity);
      const hasText =
        match(metadata, wanted.filter ?? {}) && foldName(filename).includes(foldName(wanted.search ?? ""));
      return isInPlace && isOfKind && isInTime && hasText;
    })
    .sort(compareNewestFirst);
  const { after, offset } = wanted.start;
  const rest =
    after === undefined
      ? found.slice(offset)
      : found.filter((artifact) => compareNewestFirst(artifact, after) > 0);
  return {
    ids: rest.slice(0, wanted.limit).map(({ id }) => id),
    total: found.length,
    more: rest.length > wanted.limit,
  };
}
