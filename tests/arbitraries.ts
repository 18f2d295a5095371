/**
 * fast-check generators for docyard's nouns: metadata, filters, filenames, artifacts and list queries.
 * They prefer few values over many, so that random documents and random questions about them often meet.
 */

import type {
  Artifact,
  ArtifactStatus,
  Filter,
  FindQuery,
  JsonObject,
  JsonValue,
  PageStart,
} from "@docyard/core";
import { ARTIFACT_STATUSES, FACES, isJsonObject, MEDIA_TYPES, VISIBLE_STATUSES } from "@docyard/core";
import * as fc from "fast-check";

/** Keys that plain ones hide: prototype names, our own path syntax, what databases refuse, what JSON escapes. */
export const HOSTILE_KEYS: readonly string[] = [
  "__proto__",
  "constructor",
  "",
  ".",
  '"',
  '"a"."b"',
  "a.b",
  "[]",
  "\0",
  "\n",
  "\\",
  "\\n",
  "\ud800",
  "\udc00",
  "é",
  "e\u0301",
  "😀",
  "$.a",
  "'; drop table artifact; --",
  "k".repeat(300),
  `${"k".repeat(510)}1`,
  `${"k".repeat(510)}2`,
];

/** Scalars that are easily taken for each other, and texts at the edge of what an index entry holds. */
export const TRICKY_SCALARS: readonly JsonValue[] = [
  null,
  true,
  false,
  0,
  1,
  -1,
  1.5,
  1e21,
  5e-324,
  "",
  "0",
  "1",
  "true",
  "null",
  "{",
  "[",
  "A",
  "a",
  "é",
  "e\u0301",
  "\0",
  "\ud800",
  "\udfff",
  "\ufffd",
  "%",
  "_",
  '"',
  "x".repeat(125),
  "x".repeat(126),
  "x".repeat(127),
  "x".repeat(128),
  `${"x".repeat(128)}y`,
  `${"x".repeat(126)}\u{1f600}`,
  `${"x".repeat(126)}\u{20000}`,
];

export const scalars = (): fc.Arbitrary<JsonValue> =>
  fc.oneof(
    { weight: 3, arbitrary: fc.constantFrom<JsonValue>("a", "b", 1, 2, true, null) },
    { weight: 1, arbitrary: fc.constantFrom(...TRICKY_SCALARS) },
  );

export const keys = (): fc.Arbitrary<string> =>
  fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom("a", "b", "tags") },
    { weight: 1, arbitrary: fc.constantFrom(...HOSTILE_KEYS) },
  );

/** An object whose every member is its own, `__proto__` too, as from `JSON.parse`. */
export function ownMembers(members: readonly (readonly [string, JsonValue])[]): JsonObject {
  return Object.fromEntries(members);
}

const objects = (value: fc.Arbitrary<JsonValue>, maxLength: number): fc.Arbitrary<JsonObject> =>
  fc.uniqueArray(fc.tuple(keys(), value), { maxLength, selector: ([key]) => key }).map(ownMembers);

/** JSON of at most this depth: scalars, arrays and objects. */
export function jsonValues(depth = 2): fc.Arbitrary<JsonValue> {
  if (depth === 0) return scalars();
  const inner = jsonValues(depth - 1);
  return fc.oneof(
    { weight: 4, arbitrary: scalars() },
    { weight: 2, arbitrary: fc.array(inner, { maxLength: 3 }) },
    { weight: 2, arbitrary: objects(inner, 3) },
  );
}

/** Documents; some have lists of small objects, where it matters which element has what. */
export const metadata = (): fc.Arbitrary<JsonObject> => {
  const lists = fc.array(objects(scalars(), 3), { minLength: 1, maxLength: 3 });
  const members = fc.oneof({ weight: 4, arbitrary: jsonValues() }, { weight: 1, arbitrary: lists });
  return objects(members, 4);
};

/** A part of a document: what a filter that matches it looks like. */
export function partsOf(value: JsonValue): fc.Arbitrary<JsonValue> {
  if (Array.isArray(value)) {
    return fc
      .shuffledSubarray([...(value as readonly JsonValue[])])
      .chain((some) => fc.tuple(...some.map(partsOf)));
  }
  if (typeof value === "object" && value !== null) {
    return fc
      .subarray(Object.entries(value as JsonObject))
      .chain((some) => fc.tuple(...some.map(([key, member]) => fc.tuple(fc.constant(key), partsOf(member)))))
      .map((members) => ownMembers(members));
  }
  return fc.constant(value);
}

/** The same with the objects of every array made one: what only a document with that very element matches. */
export function crossed(value: JsonValue): JsonValue {
  if (Array.isArray(value)) {
    const objects = (value as readonly JsonValue[]).filter((element) => isJsonObject(element));
    return objects.length < 2 ? value : [ownMembers(objects.flatMap((element) => Object.entries(element)))];
  }
  if (!isJsonObject(value)) return value;
  return ownMembers(Object.entries(value).map(([key, member]) => [key, crossed(member)]));
}

/** Filters: parts of these documents, nearly parts, or anything. */
export function filters(documents: readonly JsonObject[]): fc.Arbitrary<Filter> {
  if (documents.length === 0) return metadata();
  const parts = fc.constantFrom(...documents).chain(partsOf) as fc.Arbitrary<Filter>;
  const misses = fc
    .constantFrom(...documents.map((document) => Object.entries(crossed(document) as JsonObject)))
    .chain((members) => fc.subarray(members))
    .map(ownMembers);
  return fc.oneof(
    { weight: 3, arbitrary: parts },
    { weight: 1, arbitrary: misses },
    { weight: 1, arbitrary: metadata() },
  );
}

/** Accepted filenames, many with parts in common and few of them easy. */
export const filenames = (): fc.Arbitrary<string> =>
  fc
    .array(
      fc.constantFrom(
        "invoice",
        "Invoice",
        "a",
        "b",
        "-",
        "_",
        "%",
        "*",
        '"',
        "'",
        "É",
        "e\u0301",
        "ΟΔΟΣ",
        "ος",
        "İ",
        "ß",
        "日本語",
        "😀",
        "\ufffd",
        "\ufffe",
        " ",
        ".pdf",
      ),
      { minLength: 1, maxLength: 6 },
    )
    .map((parts) => parts.join(""))
    .filter((name) => name !== "." && name !== "..");

/** What people search for: parts of these names, in any case, or something that no name has. */
export function searches(names: readonly string[]): fc.Arbitrary<string> {
  const others = fc.constantFrom(
    "",
    "%",
    "_",
    "*",
    '"',
    "inv",
    "VOICE",
    "zz",
    "zzz",
    "\0",
    "\ud83d",
    "\ufffd",
  );
  if (names.length === 0) return others;
  const parts = fc
    .tuple(fc.constantFrom(...names), fc.nat(20), fc.integer({ min: 1, max: 12 }), fc.boolean())
    .map(([name, from, length, upper]) => {
      const chars = Array.from(name);
      const part = chars.slice(from % chars.length, (from % chars.length) + length).join("");
      return upper ? part.toUpperCase() : part;
    });
  return fc.oneof({ weight: 3, arbitrary: parts }, { weight: 1, arbitrary: others });
}

/** An artifact as a client's upload leaves it, with every fact plain; change what matters. */
export function plainArtifact(number: number, change: Partial<Artifact> = {}): Artifact {
  const id = `art_${String(number).padStart(6, "0")}`;
  return {
    id,
    dockId: "dock_a",
    face: "machine",
    version: 1,
    status: "upload_completed",
    filename: `file-${number}.pdf`,
    contentType: "application/pdf",
    size: number,
    digest: number.toString(16).padStart(64, "0"),
    metadata: {},
    mediaType: null,
    source: { kind: "upload" },
    durationMs: null,
    failure: null,
    uploadId: `upload_${number}`,
    stagingKey: `staging/${number}`,
    storageKey: `docks/dock_a/artifacts/${id}`,
    blobKey: `docks/dock_a/artifacts/${id}/bytes`,
    sharesBlob: false,
    duplicateOf: null,
    attempts: 0,
    dueAt: null,
    createdBy: "mc_1",
    createdAt: 1_700_000_000_000 + number,
    updatedAt: 1_700_000_000_000 + number,
    ...change,
  };
}

/** Artifacts of a few docks, with ties in their times and ids in no order of making; contents differ. */
export function artifacts(maxLength: number): fc.Arbitrary<Artifact[]> {
  const facts = fc.record({
    dockId: fc.constantFrom("dock_a", "dock_a", "dock_a", "dock_b"),
    face: fc.constantFrom(...FACES, "machine" as const),
    status: fc.constantFrom(...ARTIFACT_STATUSES, ...Array<ArtifactStatus>(6).fill("upload_completed")),
    filename: filenames(),
    metadata: metadata(),
    mediaType: fc.constantFrom(null, ...MEDIA_TYPES),
    createdAt: fc.constantFrom(0, 1_000, 1_000, 1_001, 1_002, 8_640_000_000_000_000),
  });
  return fc
    .uniqueArray(fc.tuple(fc.integer({ min: 1, max: 999_999 }), facts), {
      maxLength,
      selector: ([number]) => number,
    })
    .map((all) => all.map(([number, change]) => plainArtifact(number, change)));
}

/** Questions about these artifacts, with every parameter there or not. */
export function findQueries(about: readonly Artifact[]): fc.Arbitrary<FindQuery> {
  const positions = about.map(({ createdAt, id }) => ({ createdAt, id }));
  const times = fc.constantFrom(0, 999, 1_000, 1_001, 1_002, 1_003);
  const where = fc.record({
    dockId: fc.constantFrom("dock_a", "dock_a", "dock_a", "dock_b", "dock_none"),
    face: fc.constantFrom(...FACES),
    statuses: fc.oneof(
      { weight: 2, arbitrary: fc.constant<ArtifactStatus[]>(["upload_completed"]) },
      { weight: 1, arbitrary: fc.subarray([...VISIBLE_STATUSES], { minLength: 1 }) },
    ),
    start: fc.oneof(
      fc.nat(Math.min(40, about.length + 2)).map((offset): PageStart => ({ offset })),
      fc
        .constantFrom(...positions, { createdAt: 1_000, id: "art_500000" })
        .map((after): PageStart => ({ after })),
    ),
    limit: fc.constantFrom(1, 2, 5, 1_000),
  });
  const texts = fc.record(
    {
      filter: filters(about.map((artifact) => artifact.metadata)),
      search: searches(about.map((artifact) => artifact.filename)),
    },
    { requiredKeys: [] },
  );
  const bounds = fc.record(
    { mediaType: fc.constantFrom(...MEDIA_TYPES), createdAfter: times, createdBefore: times },
    { requiredKeys: [] },
  );
  return fc
    .tuple(where, texts, fc.oneof(fc.constant({}), bounds))
    .map(([place, text, bound]) => ({ ...place, ...text, ...bound }));
}

/** More completed rows than a walk takes without asking the name index, and than one batch of checked rows. */
const LARGE = 1_500;

/** A dock large enough for every way of answering a list. */
export function largeDock(change: Partial<Artifact> = {}): Artifact[] {
  const documents = fc.sample(metadata(), { numRuns: 40, seed: 7 });
  return Array.from({ length: LARGE }, (_, i) =>
    plainArtifact(i, {
      metadata: {
        ...documents[i % documents.length],
        everywhere: 1,
        half: i % 2 === 0,
        pair: [i % 2, i % 3],
      },
      filename: `${["Invoice", "summary", "é%_"][i % 3]} ${i % 100}${i < 200 ? " old" : ""}.pdf`,
      status: i % 11 === 0 ? "created" : "upload_completed",
      createdAt: 1_000 + Math.floor(i / 7),
      ...change,
    }),
  );
}

/** Questions about much of a large dock, which the ones about parts of a document rarely are. */
export const broadQuestions = (): fc.Arbitrary<Partial<Pick<FindQuery, "filter" | "search">>> =>
  fc.record(
    {
      filter: fc.constantFrom<JsonObject>(
        { everywhere: 1 },
        { half: true },
        { half: false, everywhere: 1 },
        { pair: [1] },
        { pair: [2, 0] },
        { pair: [{}] },
      ),
      search: fc.constantFrom("invoice", "É%_", "old", "e 1", "7", "summary 33.pdf", "zzz"),
    },
    { requiredKeys: [] },
  );
