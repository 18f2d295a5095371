/** `parseJson` agrees with the grammar, whatever else the process has seen: the engine's own parser does not. */

import type { JsonValue } from "@docyard/core";
import { isJsonObject, parseJson } from "@docyard/core";
import * as fc from "fast-check";
import { expect, test } from "vitest";

/** JSON text with every character of every string escaped or not, as clients are free to choose. */
function spell(value: unknown, escapes: () => boolean): string {
  if (typeof value === "string") {
    const body = Array.from(value, (char) =>
      escapes()
        ? Array.from(
            { length: char.length },
            (_, i) => `\\u${char.charCodeAt(i).toString(16).padStart(4, "0")}`,
          ).join("")
        : JSON.stringify(char).slice(1, -1),
    );
    return `"${body.join("")}"`;
  }
  if (Array.isArray(value)) return `[${value.map((one) => spell(one, escapes)).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    const members = Object.entries(value).map(
      ([key, one]) => `${spell(key, escapes)}:${spell(one, escapes)}`,
    );
    return `{${members.join(",")}}`;
  }
  return JSON.stringify(value);
}

const key = fc.oneof(
  fc.constantFrom("a", "A", "ab", "größe", 'q"', "n\n", "\u0000", "u0041", "\\", "\\n"),
  fc.string(),
);
const json = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 3 },
    fc.oneof(fc.string({ unit: "binary" }), fc.integer(), fc.boolean(), fc.constant(null)),
    fc.array(tie("value"), { maxLength: 4 }),
    fc.dictionary(key, tie("value"), { maxKeys: 4 }),
  ),
})).value;

test("any spelling of a document means that document, in any order of documents", () => {
  const seen = fc.array(fc.tuple(json, fc.infiniteStream(fc.boolean())), { minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(seen, (documents) => {
      for (const [document, bits] of documents) {
        const found = parseJson(spell(document, () => bits.next().value));
        expect(found).toEqual(document);
        // `toEqual` does not look at the order of members, nor at an own `__proto__`.
        expect(JSON.stringify(found)).toBe(JSON.stringify(document));
      }
    }),
    { numRuns: 2_000 },
  );
});

test("white space is allowed around every colon", () => {
  expect(parseJson('{ "a\\n" \r\n\t: { "\\\\": 1 , "b" : ":" } }')).toEqual({ "a\n": { "\\": 1, b: ":" } });
});

test("no key of the process becomes the name of an escaped key, where the parser alone would confuse them", () => {
  // An object that starts with this key, so that no other object of the process has its shape.
  const first = "only in this test";
  const keys = ["\\", '"', "\n", "\0", "\ud800", "\\n", "\na", '\\"', "k0022"];
  const isNamed = (key: string, parse: (text: string) => unknown): boolean => {
    const document = Object.fromEntries<unknown>([
      [first, [{ [first]: 0 }]],
      [key, { [first]: key }],
    ]);
    const text = JSON.stringify(document);
    return JSON.stringify(parse(text)) === text;
  };
  for (const key of keys) JSON.parse(JSON.stringify({ [first]: 1, [key]: 2 }));
  expect(keys.filter((key) => !isNamed(key, parseJson))).toEqual([]);
});

test("neither length nor nesting exhausts anything", () => {
  const long = { a: '\\"'.repeat(16_000), b: ["\n".repeat(16_000)], "\n": '"' };
  expect(parseJson(JSON.stringify(long))).toEqual(long);
  const depth = 100_000;
  let value = parseJson(`${'{"\\u0001":['.repeat(depth)}${"]}".repeat(depth)}`);
  let found = 0;
  for (; isJsonObject(value); found++) value = (value["\u0001"] as JsonValue[])[0]!;
  expect(found).toBe(depth);
  expect(() => parseJson(`{"\\n":"${'\\"'.repeat(100_000)}`)).toThrow(SyntaxError);
});

test.each(["", "{", '{"a":1,}', "{'a':1}", '{"a":"\\x"}', '{"a":"\u0001"}'])(
  "%j is a SyntaxError",
  (text) => {
    expect(() => parseJson(text)).toThrow(SyntaxError);
  },
);
