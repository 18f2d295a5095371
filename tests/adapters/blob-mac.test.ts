/** The code that signs URLs is HMAC-SHA256, whatever the lengths of key and text. */

import { createHmac } from "node:crypto";
import { createMac } from "../../packages/adapters/src/blob/mac.ts";
import * as fc from "fast-check";
import { expect, test } from "vitest";

const ascii = fc.string({ unit: "grapheme-ascii", maxLength: 300 });

test("one function gives node:crypto's code for text after text", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 200 }), fc.array(ascii), (secret, texts) => {
      const mac = createMac(secret);
      for (const text of texts)
        expect(mac(text)).toBe(createHmac("sha256", secret).update(text).digest("hex"));
    }),
  );
});

test.each([0, 4_095, 4_096, 4_097, 100_000])(
  "a text of %i characters, and a short one after it",
  (length) => {
    const secret = new Uint8Array(32).fill(9);
    const mac = createMac(secret);
    for (const text of ["x".repeat(length), "short"]) {
      expect(mac(text)).toBe(createHmac("sha256", secret).update(text).digest("hex"));
    }
  },
);

test("the secret is read once: changing its bytes afterwards changes nothing", () => {
  const secret = new Uint8Array(64).fill(1);
  const mac = createMac(secret);
  const texts = ["text", "x".repeat(10_000)];
  const expected = texts.map((text) => createHmac("sha256", secret).update(text).digest("hex"));
  secret.fill(2);
  expect(texts.map(mac)).toEqual(expected);
});
