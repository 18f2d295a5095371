/**
 * Reads JSON that a store has written with `JSON.stringify`, whatever keys it has.
 * What clients send is read by core, which refuses the keys that would need this.
 */

import type { JsonObject, JsonValue } from "@docyard/core";

/** Every string, and whether it is a key: `JSON.stringify` puts the colon right behind. Linear, however long. */
const STRINGS = /"[^"\\]*(?:\\[^][^"\\]*)*"(:?)/g;

/**
 * V8 may give an escaped key the name of another object's key that starts like its raw text (nodejs/node#63785): a key
 * of a quote can come back as a backslash. So keys with escapes are spelled in digits first, and named afterwards.
 */
export function parseStored(text: string): JsonObject {
  if (!text.includes("\\") || !hasEscapedKey(text)) return JSON.parse(text) as JsonObject;
  const spelled = text.replaceAll(STRINGS, (string: string, colon: string) =>
    colon === "" ? string : `"${spell(JSON.parse(string.slice(0, -1)) as string)}":`,
  );
  return named(JSON.parse(spelled) as JsonValue) as JsonObject;
}

function hasEscapedKey(text: string): boolean {
  return [...text.matchAll(STRINGS)].some(([string, colon]) => colon === ":" && string.includes("\\"));
}

/** A key as hexadecimal digits, four for each UTF-16 unit, behind a letter that makes it no array index. */
function spell(key: string): string {
  let digits = "k";
  for (let i = 0; i < key.length; i++) digits += key.charCodeAt(i).toString(16).padStart(4, "0");
  return digits;
}

function named(value: JsonValue): JsonValue {
  if (Array.isArray(value)) return value.map((element: JsonValue) => named(element));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([digits, member]) => [
      digits.slice(1).replaceAll(/.{4}/g, (unit) => String.fromCharCode(Number.parseInt(unit, 16))),
      named(member),
    ]),
  );
}
