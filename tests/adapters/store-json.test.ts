/** Stored JSON is read as it was written, whatever other documents the process has seen. */

import { parseStored } from "../../packages/adapters/src/store/json.ts";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { metadata, ownMembers } from "../arbitraries.ts";

test("what was written comes back, text for text", () => {
  fc.assert(
    fc.property(fc.oneof(metadata(), fc.dictionary(fc.string({ unit: "binary" }), fc.json())), (document) => {
      // Keys with backslashes have a test of their own: they would haunt the whole process.
      const text = JSON.stringify(document);
      fc.pre(!Object.keys(document).some((key) => key.includes("\\")));
      expect(JSON.stringify(parseStored(text))).toBe(text);
    }),
    { numRuns: 2_000 },
  );
});

test("a key of another document with a backslash does not become the name of an escaped key", () => {
  // An object that starts with this key, so that no other object of the process has its shape.
  const first = "only in this test";
  const keys = ["\\", '"', "\n", "\0", "\ud800", "\\n", "\na", '\\"', "k0022"];
  for (const key of keys)
    JSON.parse(
      JSON.stringify(
        ownMembers([
          [first, 1],
          [key, 2],
        ]),
      ),
    );
  for (const key of keys) {
    const document = ownMembers([
      [first, [{ [first]: 0 }]],
      [key, { [first]: key }],
    ]);
    const found = parseStored(JSON.stringify(document));
    expect(Object.keys(found)).toEqual([first, key]);
    expect(found).toEqual(document);
  }
});

test("long values full of escapes take no longer than their length says", () => {
  const document = { a: '\\"'.repeat(16_000), b: ["\n".repeat(16_000)] };
  expect(parseStored(JSON.stringify(document))).toEqual(document);
});
