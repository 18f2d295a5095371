/** `parseJson` agrees with the grammar, whatever documents came before: the engine's own parser does not. */

import { isDocyardError, parseJson } from "@docyard/core";
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

const key = fc.oneof(fc.constantFrom("a", "A", "ab", "größe", 'q"', "n\n", "\u0000", "u0041"), fc.string());
const json = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 3 },
    fc.oneof(fc.string({ unit: "binary" }), fc.integer(), fc.boolean(), fc.constant(null)),
    fc.array(tie("value"), { maxLength: 4 }),
    fc.dictionary(key, tie("value"), { maxKeys: 4 }),
  ),
})).value;

function hasBackslashKey(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  return Object.entries(value).some(([name, one]) => name.includes("\\") || hasBackslashKey(one));
}

function parsed(text: string): unknown {
  try {
    return parseJson(text);
  } catch (error) {
    return isDocyardError(error, "invalid_argument") ? "refused" : error;
  }
}

test("any spelling of a document without backslashes in keys means that document, in any order of documents", () => {
  const seen = fc.array(fc.tuple(json, fc.infiniteStream(fc.boolean())), { minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(seen, (documents) => {
      for (const [document, bits] of documents) {
        const text = spell(document, () => bits.next().value);
        const expected = hasBackslashKey(document) ? "refused" : document;
        expect(parsed(text)).toEqual(expected);
      }
    }),
    { numRuns: 2_000 },
  );
});

test.each(['{"b":0,"\\\\":0}', '{"b":0,"\\u005c":0}', '{"b":0,"x\\\\y" : 0}'])(
  "%s cannot rename the keys of the next document",
  (poison) => {
    let error: unknown;
    try {
      parseJson(poison);
    } catch (thrown) {
      error = thrown;
    }
    expect(isDocyardError(error, "invalid_argument")).toBe(true);
    expect(parseJson('{"b":0,"\\u0041":0}')).toEqual({ b: 0, A: 0 });
    expect(parseJson('{"b":0,"\\n":0}')).toEqual({ b: 0, "\n": 0 });
  },
);

test("backslashes in values are as welcome as anything", () => {
  expect(parseJson('{"path":"C:\\\\temp\\u005cx","n":"\\\\\\"a:"}')).toEqual({
    path: "C:\\temp\\x",
    n: '\\"a:',
  });
});

test.each(["", "{", '{"a":1,}', "{'a':1}", '{"a":"\\x"}', '{"a":"\u0001"}'])(
  "%j is a SyntaxError",
  (text) => {
    expect(() => parseJson(text)).toThrow(SyntaxError);
  },
);
