/**
 * Laws of the metadata filter: `match` against an oracle written another way, `terms` as a sound index of it, and
 * `parseFilter` against whatever a query string may hold. Stores prove the same agreement in their conformance suite.
 */
import type { Filter, JsonObject, JsonValue, Term } from "@docyard/core";
import {
  FILTER_VALUES_MAX,
  isDocyardError,
  isExact,
  match,
  METADATA_BYTES_MAX,
  METADATA_DEPTH_MAX,
  METADATA_VALUES_MAX,
  metadataFault,
  parseFilter,
  parseJson,
  terms,
} from "@docyard/core";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";

/** Keys that break maps, paths, quoting, databases and encoders. */
const STRANGE_KEYS = [
  "",
  " ",
  ".",
  "..",
  "[]",
  "[",
  "{",
  `"`,
  `""`,
  `"."`,
  `a"."b`,
  "a.b",
  "a[]",
  "\0",
  "\n",
  "\u2028",
  "\ud800",
  "\udc00",
  "😀",
  "é",
  "e\u0301",
  "__proto__",
  "constructor",
  "prototype",
  "hasOwnProperty",
  "toString",
  "toJSON",
  "length",
  "0",
  "-1",
  "$ref",
  "%",
  "a",
  "A",
  "b",
];

const NUMBERS = [0, -0, 1, -1, 5, 1.5, 0.1, 1e21, 1e-7, 2 ** 53 - 1, 2 ** 53, 5e-324, Number.MAX_VALUE];

const key = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom("a", "b", "c") },
  { weight: 2, arbitrary: fc.constantFrom(...STRANGE_KEYS) },
  { weight: 1, arbitrary: fc.string({ unit: "binary", maxLength: 6 }) },
);

const scalar = fc.oneof(
  fc.constantFrom<JsonValue>(
    null,
    true,
    false,
    "",
    "a",
    "5",
    "1",
    "true",
    "null",
    "{",
    "[",
    `"a"`,
    "\0",
    "\ud800",
  ),
  fc.constantFrom<JsonValue>(...NUMBERS),
  fc.constantFrom<JsonValue>(
    "x".repeat(125),
    "x".repeat(126),
    "x".repeat(127),
    `${"x".repeat(127)}y`,
    "😀".repeat(70),
  ),
  fc.double({ noNaN: true, noDefaultInfinity: true }) as fc.Arbitrary<JsonValue>,
  fc.string({ unit: "binary", maxLength: 4 }) as fc.Arbitrary<JsonValue>,
);

/** As JSON.parse makes them: `__proto__` is an own property. */
function objectOf(entries: readonly (readonly [string, JsonValue])[]): JsonObject {
  const object: Record<string, JsonValue> = {};
  for (const [key, value] of entries) {
    Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true });
  }
  return object;
}

const { document } = fc.letrec<{ value: JsonValue; document: JsonObject; list: JsonValue[] }>((tie) => ({
  value: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    { weight: 4, arbitrary: scalar },
    { weight: 2, arbitrary: tie("document") },
    { weight: 1, arbitrary: tie("list") },
  ),
  document: fc.array(fc.tuple(key, tie("value")), { maxLength: 4 }).map(objectOf),
  list: fc.array(tie("value"), { maxLength: 3 }),
}));

/**
 * A document and something that was taken out of it, sometimes with one value changed: random pairs alone would hardly
 * ever match, and matching is what must be tested.
 */
const pair: fc.Arbitrary<readonly [JsonObject, JsonObject]> = fc.oneof(
  fc.tuple(document, document),
  document.chain((whole) => fc.tuple(fc.constant(whole), partOf(whole) as fc.Arbitrary<JsonObject>)),
  document.chain((whole) =>
    fc
      .tuple(fc.constant(whole), partOf(whole) as fc.Arbitrary<JsonObject>, key, scalar)
      .map(
        ([whole, part, key, value]) => [whole, objectOf([...Object.entries(part), [key, value]])] as const,
      ),
  ),
);

function partOf(value: JsonValue): fc.Arbitrary<JsonValue> {
  if (isList(value)) {
    return value.length === 0
      ? fc.constant([])
      : fc.array(
          fc.nat(value.length - 1).chain((i) => partOf(value[i]!)),
          { maxLength: 3 },
        );
  }
  if (isRecord(value)) {
    const entries = Object.entries(value);
    return fc
      .subarray(entries)
      .chain((kept) => fc.tuple(...kept.map(([key, member]) => fc.tuple(fc.constant(key), partOf(member)))))
      .map((kept) => objectOf(kept));
  }
  return fc.constant(value);
}

/**
 * The oracle: the contract's sentence, "every path of the filter leads to the same value in the metadata", turned into
 * sets of choices rather than recursion over both trees. Slow and independent of `match`.
 */
function contains(metadata: JsonValue, filter: JsonValue): boolean {
  const kind = (value: JsonValue): string =>
    value === null ? "null" : isList(value) ? "list" : typeof value === "object" ? "record" : typeof value;
  if (kind(metadata) !== kind(filter)) return false;
  if (isList(filter)) {
    const held = metadata as readonly JsonValue[];
    let missing = 0;
    for (const wanted of filter) {
      let found = false;
      for (const candidate of held) found = contains(candidate, wanted) || found;
      if (!found) missing++;
    }
    return missing === 0;
  }
  if (isRecord(filter)) {
    const held = new Map(Object.entries(metadata as JsonObject));
    return (
      Object.entries(filter).filter(([key, wanted]) => {
        const value = held.get(key);
        return value === undefined || !contains(value, wanted);
      }).length === 0
    );
  }
  return JSON.stringify(metadata) === JSON.stringify(filter);
}

function isList(value: JsonValue): value is readonly JsonValue[] {
  return Array.isArray(value);
}

function isRecord(value: JsonValue): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isSubset(part: readonly Term[], whole: readonly Term[]): boolean {
  const names = new Set(whole.map((term) => JSON.stringify(term)));
  return part.every((term) => names.has(JSON.stringify(term)));
}

const RUNS = { numRuns: 1_500 };

describe("match", () => {
  test("agrees with the oracle", () => {
    fc.assert(
      fc.property(pair, ([metadata, filter]) => {
        expect(match(metadata, filter)).toBe(contains(metadata, filter));
      }),
      RUNS,
    );
  });

  test("the law is tried on matches and on misses alike", () => {
    const [misses, matches] = [false, true].map(
      (wanted) =>
        fc.sample(pair, 1_000).filter(([metadata, filter]) => match(metadata, filter) === wanted).length,
    );
    expect(matches).toBeGreaterThan(200);
    expect(misses).toBeGreaterThan(200);
  });

  test("everything contains itself, its parts, and nothing at all", () => {
    fc.assert(
      fc.property(
        document.chain((whole) => fc.tuple(fc.constant(whole), partOf(whole))),
        ([whole, part]) => {
          expect(match(whole, whole)).toBe(true);
          expect(match(whole, part)).toBe(true);
          expect(match(whole, {})).toBe(true);
        },
      ),
      RUNS,
    );
  });

  test("is transitive: a filter that matches a part matches the whole", () => {
    fc.assert(
      fc.property(
        document.chain((whole) =>
          partOf(whole).chain((part) => fc.tuple(fc.constant(whole), fc.constant(part), partOf(part))),
        ),
        ([whole, part, smaller]) => {
          expect(match(part, smaller)).toBe(true);
          expect(match(whole, smaller)).toBe(true);
        },
      ),
    );
  });

  test("several fields are AND", () => {
    fc.assert(
      fc.property(pair, ([metadata, filter]) => {
        const alone = Object.entries(filter).map((entry) => match(metadata, objectOf([entry])));
        expect(match(metadata, filter)).toBe(alone.every(Boolean));
      }),
      RUNS,
    );
  });

  test("survives being written as JSON and read again", () => {
    fc.assert(
      fc.property(pair, ([metadata, filter]) => {
        const again = (value: JsonValue): JsonValue => parseJson(JSON.stringify(value));
        expect(match(again(metadata), again(filter))).toBe(match(metadata, filter));
      }),
      RUNS,
    );
  });

  const corner = (metadata: string, filter: string): readonly [string, string] => [metadata, filter];

  test.each([
    corner(`{"a":1}`, `{"a":1.0}`),
    corner(`{"a":0}`, `{"a":-0}`),
    corner(`{"a":-0}`, `{"a":0.0}`),
    corner(`{"a":100}`, `{"a":1e2}`),
    corner(`{"a":1e21}`, `{"a":1000000000000000000000}`),
    corner(`{"a":{"b":{"c":1,"d":2}}}`, `{"a":{"b":{"c":1}}}`),
    corner(`{"a":{"b":1}}`, `{"a":{}}`),
    corner(`{"a":[1,2,3]}`, `{"a":[3,1]}`),
    corner(`{"a":[1]}`, `{"a":[1,1]}`),
    corner(`{"a":[1]}`, `{"a":[]}`),
    corner(`{"a":[{"b":1,"c":2}]}`, `{"a":[{"b":1}]}`),
    corner(`{"a":[[1,2]]}`, `{"a":[[2]]}`),
    corner(`{"a":null}`, `{"a":null}`),
    corner(`{"__proto__":{"x":1}}`, `{"__proto__":{"x":1}}`),
    corner(`{"constructor":"x"}`, `{"constructor":"x"}`),
    corner(`{"":""}`, `{"":""}`),
    corner(`{"a\\u0000":"\\u0000"}`, `{"a\\u0000":"\\u0000"}`),
    corner(`{"\\ud800":1}`, `{"\\ud800":1}`),
  ])("%s contains %s", (metadata, filter) => {
    expect(match(read(metadata), read(filter))).toBe(true);
  });

  test.each([
    corner(`{"a":5}`, `{"a":"5"}`),
    corner(`{"a":"5"}`, `{"a":5}`),
    corner(`{"a":1}`, `{"a":true}`),
    corner(`{"a":true}`, `{"a":1}`),
    corner(`{"a":0}`, `{"a":false}`),
    corner(`{"a":0}`, `{"a":null}`),
    corner(`{"a":""}`, `{"a":null}`),
    corner(`{"a":"null"}`, `{"a":null}`),
    corner(`{"b":1}`, `{"a":null}`),
    corner(`{}`, `{"a":null}`),
    corner(`{"a":"x"}`, `{"A":"x"}`),
    corner(`{"a":"x"}`, `{"a":"X"}`),
    corner(`{"a":"xy"}`, `{"a":"x"}`),
    corner(`{"a":1}`, `{"a":[1]}`),
    corner(`{"a":[1]}`, `{"a":1}`),
    corner(`{"a":[]}`, `{"a":{}}`),
    corner(`{"a":{}}`, `{"a":[]}`),
    corner(`{"a":[{"b":1},{"c":2}]}`, `{"a":[{"b":1,"c":2}]}`),
    corner(`{"a.b":1}`, `{"a":{"b":1}}`),
    corner(`{"a":{"b":1}}`, `{"a.b":1}`),
    corner(`{"a":{"0":1}}`, `{"a":[1]}`),
    corner(`{"é":1}`, `{"e\\u0301":1}`),
    corner(`{}`, `{"__proto__":{}}`),
    corner(`{}`, `{"constructor":{}}`),
    corner(`{}`, `{"toString":{}}`),
    corner(`{"a":[]}`, `{"a":{"length":0}}`),
    corner(`{"a":"abc"}`, `{"a":{"length":3}}`),
    corner(`{"\\ud800":1}`, `{"\\ufffd":1}`),
  ])("%s does not contain %s", (metadata, filter) => {
    expect(match(read(metadata), read(filter))).toBe(false);
  });
});

describe("terms", () => {
  test("a document that matches has all terms of the filter", () => {
    fc.assert(
      fc.property(pair, ([metadata, filter]) => {
        fc.pre(match(metadata, filter));
        expect(isSubset(terms(filter), terms(metadata))).toBe(true);
      }),
      RUNS,
    );
  });

  test("a document that has all terms of an exact filter matches", () => {
    fc.assert(
      fc.property(pair, ([metadata, filter]) => {
        fc.pre(isExact(filter) && isSubset(terms(filter), terms(metadata)));
        expect(match(metadata, filter)).toBe(true);
      }),
      RUNS,
    );
  });

  test("exact filters are common enough for the law above to mean something", () => {
    const exact = fc.sample(pair, 1_000).filter(([, filter]) => isExact(filter));
    expect(exact.length).toBeGreaterThan(300);
  });

  test("terms are distinct, bounded, and text that any database takes as it is", () => {
    fc.assert(
      fc.property(document, (document) => {
        const found = terms(document);
        expect(new Set(found.map((term) => JSON.stringify(term))).size).toBe(found.length);
        for (const { path, value } of found) {
          for (const text of [path, value]) {
            // What JSON escapes; the delete character and those from 0x80 harm no database.
            expect(Array.from(text).filter((char) => char < " ")).toEqual([]);
            expect(text.isWellFormed()).toBe(true);
            expect(text.length).toBeGreaterThan(0);
          }
          expect(value.length).toBeLessThanOrEqual(128);
        }
      }),
      RUNS,
    );
  });

  test("terms survive JSON: the order of keys and the spelling of numbers do not matter", () => {
    fc.assert(
      fc.property(document, (document) => {
        const turned = objectOf(Object.entries(document).toReversed());
        expect(isSubset(terms(turned), terms(document))).toBe(true);
        expect(isSubset(terms(document), terms(read(JSON.stringify(document))))).toBe(true);
      }),
      RUNS,
    );
  });

  test("no path is bounded only by the size of a document", () => {
    // B-tree entries are: PostgreSQL takes about 2,700 bytes, and a request must not fail for that.
    const long = "k".repeat(60_000);
    let nested: JsonObject = { leaf: 1 };
    for (let i = 0; i < METADATA_DEPTH_MAX - 2; i++) nested = { ["n".repeat(1_500)]: nested };
    for (const document of [{ [long]: 1 }, nested, { ["😀".repeat(10_000)]: [[1]] }]) {
      expect(metadataFault(document)).toBeNull();
      for (const { path } of terms(document))
        expect(new TextEncoder().encode(path).length).toBeLessThan(2_000);
    }
  });

  test("long keys stay sound: a match still has all terms, and near misses are not called exact", () => {
    const base = "k".repeat(1_000);
    const metadata: JsonObject = { [`${base}a`]: 1, [base]: { x: { y: 2 } } };
    for (const filter of [{ [`${base}a`]: 1 }, { [base]: { x: { y: 2 } } }, { [base]: {} }]) {
      expect(match(metadata, filter)).toBe(true);
      expect(isSubset(terms(filter), terms(metadata))).toBe(true);
    }
    for (const filter of [{ [`${base}b`]: 1 }, { [base]: { x: { z: 2 } } }]) {
      expect(match(metadata, filter)).toBe(false);
      expect(isExact(filter) && isSubset(terms(filter), terms(metadata))).toBe(false);
    }
  });

  test.each([
    [{ a: "x" }, [{ path: `"a"`, value: `"x"` }]],
    [{}, []],
    [{ a: {} }, [{ path: `"a"`, value: "{" }]],
    [{ a: [] }, [{ path: `"a"`, value: "[" }]],
    [
      { a: { b: 1 } },
      [
        { path: `"a"`, value: "{" },
        { path: `"a"."b"`, value: "1" },
      ],
    ],
    [
      { a: ["x", "x", { b: null }] },
      [
        { path: `"a"`, value: "[" },
        { path: `"a"[]`, value: `"x"` },
        { path: `"a"[]`, value: "{" },
        { path: `"a"[]."b"`, value: "null" },
      ],
    ],
    [{ "a.b": true }, [{ path: `"a.b"`, value: "true" }]],
    [{ "\\": "\\" }, [{ path: String.raw`"\\"`, value: String.raw`"\\"` }]],
    [{ '"': "{" }, [{ path: String.raw`"\""`, value: `"{"` }]],
  ] as [JsonObject, Term[]][])("of %j", (document, expected) => {
    expect(terms(document)).toEqual(expected);
  });
});

describe("isExact", () => {
  test.each([
    [{}, true],
    [{ a: 1 }, true],
    [{ a: { b: { c: "x" } }, d: null }, true],
    [{ a: [] }, false],
    [{ a: { b: [1] } }, false],
    [{ a: "x".repeat(125) }, true],
    [{ a: "x".repeat(126) }, false],
    [{ a: "x".repeat(10_000) }, false],
    [{ a: "\0".repeat(21) }, false],
  ] as [Filter, boolean][])("%j: %s", (filter, expected) => {
    expect(isExact(filter)).toBe(expected);
  });
});

describe("parseFilter", () => {
  test("reads what JSON.stringify writes", () => {
    fc.assert(
      fc.property(document, (document) => {
        fc.pre(valuesIn(document) <= FILTER_VALUES_MAX);
        expect(JSON.stringify(parseFilter(JSON.stringify(document)))).toBe(JSON.stringify(document));
      }),
      RUNS,
    );
  });

  test("reads it without its braces, as curl sends it", () => {
    fc.assert(
      fc.property(document, (document) => {
        fc.pre(valuesIn(document) <= FILTER_VALUES_MAX && Object.keys(document).length > 0);
        const bare = JSON.stringify(document).slice(1, -1);
        expect(JSON.stringify(parseFilter(bare))).toBe(JSON.stringify(document));
      }),
      RUNS,
    );
  });

  test("answers any text with a filter within bounds or with invalid_argument", () => {
    const jsonish = fc
      .array(
        fc.constantFrom("{", "}", "[", "]", ",", ":", `"a"`, `"`, "1", "1e999", "null", "\\", "\0", " "),
        { maxLength: 12 },
      )
      .map((parts) => parts.join(""));
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: "binary" }), fc.json(), jsonish), (text) => {
        const filter = parsed(text);
        if (filter === null) return;
        expect(isRecord(filter)).toBe(true);
        expect(valuesIn(filter)).toBeLessThanOrEqual(FILTER_VALUES_MAX);
        expect(match(read(JSON.stringify(filter)), filter)).toBe(true);
      }),
      RUNS,
    );
  });

  test.each([
    [`"patientId":"12345"`, { patientId: "12345" }],
    [
      `{"patientId":"12345","documentType":"discharge-summary"}`,
      { patientId: "12345", documentType: "discharge-summary" },
    ],
    [` {"a" : 1} `, { a: 1 }],
    [`{"a":1,"a":2}`, { a: 2 }],
    ["{}", {}],
    ["", {}],
  ])("%s", (text, expected) => {
    expect(parseFilter(text)).toEqual(expected);
  });

  test.each([
    "null",
    "1",
    `"a"`,
    "true",
    "[]",
    `[{"a":1}]`,
    "{",
    "}",
    "}{",
    `{"a":1}}`,
    `"a":1},{"b":2`,
    `{'a':1}`,
    "{a:1}",
    "a=1",
    "undefined",
    `{"a":undefined}`,
    `{"a":NaN}`,
    `{"a":01}`,
    `{"a":1,}`,
    `{"a":1}//`,
    "\ufeff{}",
  ])("refuses %j", (text) => {
    expect(parsed(text)).toBeNull();
  });

  test.each([`{"a":1e400}`, `{"a":-1e400}`, `{"a":[{"b":1e309}]}`, `"a":1e400`])(
    "refuses %s: JavaScript reads it as Infinity, which no JSON can write back",
    (text) => {
      expect(parsed(text)).toBeNull();
    },
  );

  test.each([
    ["100,000 nested arrays", `{"a":${"[".repeat(100_000)}${"]".repeat(100_000)}}`],
    ["100,000 nested objects", `${`{"a":`.repeat(100_000)}1${"}".repeat(100_000)}`],
    ["100,000 nested arrays at the root", "[".repeat(100_000) + "]".repeat(100_000)],
    ["100,000 nested arrays without an end", `{"a":${"[".repeat(100_000)}`],
    ["a million elements", `{"a":[${"0,".repeat(1_000_000)}0]}`],
    ["a hundred thousand keys", `{${Array.from({ length: 100_000 }, (_, i) => `"k${i}":0`).join(",")}}`],
  ])("refuses %s without falling over", (_, text) => {
    expect(parsed(text)).toBeNull();
  });

  test("the bounds are exact", () => {
    const wide = (count: number): string => JSON.stringify({ a: Array.from({ length: count - 1 }, () => 0) });
    expect(parsed(wide(FILTER_VALUES_MAX))).not.toBeNull();
    expect(parsed(wide(FILTER_VALUES_MAX + 1))).toBeNull();
    const deep = (depth: number): string => `${`{"a":`.repeat(depth)}1${"}".repeat(depth)}`;
    expect(parsed(deep(METADATA_DEPTH_MAX - 1))).not.toBeNull();
    expect(parsed(deep(METADATA_DEPTH_MAX + 1))).toBeNull();
  });
});

describe("metadataFault", () => {
  test("the bounds are exact and each has its own words", () => {
    const values = (count: number): JsonObject => ({ a: Array.from({ length: count - 1 }, () => 0) });
    expect(metadataFault(values(METADATA_VALUES_MAX))).toBeNull();
    expect(metadataFault(values(METADATA_VALUES_MAX + 1))).toContain("values");

    const nested = (depth: number): JsonObject => {
      let value: JsonObject = {};
      for (let i = 0; i < depth; i++) value = { a: value };
      return value;
    };
    expect(metadataFault(nested(METADATA_DEPTH_MAX))).toBeNull();
    expect(metadataFault(nested(METADATA_DEPTH_MAX + 1))).toContain("deeper");
    expect(metadataFault(nested(1_000))).toContain("deeper");

    const room = METADATA_BYTES_MAX - `{"a":""}`.length;
    expect(metadataFault({ a: "x".repeat(room) })).toBeNull();
    expect(metadataFault({ a: "x".repeat(room + 1) })).toContain("bytes");
    expect(metadataFault({ a: "é".repeat(room / 2 + 1) })).toContain("bytes");
  });

  test("accepted metadata is the same after JSON", () => {
    fc.assert(
      fc.property(document, (document) => {
        fc.pre(metadataFault(document) === null);
        const again = read(JSON.stringify(document));
        expect(match(again, document) && match(document, again)).toBe(true);
      }),
      RUNS,
    );
  });

  test.each([`{"a":1e400}`, `{"a":[-1e999]}`, `{"a":{"b":{"c":1e309}}}`])(
    "refuses %s: it would be stored as null",
    (text) => {
      expect(metadataFault(read(text))).toMatch(/metadata/);
    },
  );
});

function read(text: string): JsonObject {
  return parseJson(text) as JsonObject;
}

/** The filter, or null where it is refused; any other error is a failure. */
function parsed(text: string): Filter | null {
  try {
    return parseFilter(text);
  } catch (error) {
    if (isDocyardError(error, "invalid_argument")) {
      expect(error.message.length).toBeLessThan(200);
      return null;
    }
    throw error;
  }
}

/** Scalars, objects and arrays below the root. */
function valuesIn(document: JsonValue): number {
  if (typeof document !== "object" || document === null) return 0;
  return Object.values(document).reduce((sum: number, value: JsonValue) => sum + 1 + valuesIn(value), 0);
}
