/** JSON as types: what metadata, filters and event data are made of. */

import { DocyardError } from "./errors.ts";

export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject;

export interface JsonObject {
  readonly [key: string]: JsonValue;
}

/** True for a JSON object: not null, not an array, not a scalar. */
export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A key that holds a backslash, once escapes that only spell a letter are spelled out. */
const BACKSLASH_KEY = /"(?:[^"\\]|\\[^\\])*\\\\(?:[^"\\]|\\[^])*"\s*:/;

/**
 * `JSON.parse`, but safe from other documents' keys: V8 compares the raw text of an escaped key with keys that it saw in
 * documents of the same shape before (nodejs/node#63785), so that one client's key `\\` could rename another's `\u0041`.
 * Escapes that only spell a letter are spelled out first, and keys with a backslash, the only ones that can do harm,
 * are refused.
 * @throws SyntaxError for what is no JSON; DocyardError `invalid_argument` for such keys
 */
export function parseJson(text: string): unknown {
  if (!text.includes("\\")) return JSON.parse(text);
  const plain = text.includes("\\u") ? spellOut(text) : text;
  if (plain.includes("\\\\") && BACKSLASH_KEY.test(plain)) {
    throw new DocyardError("invalid_argument", "JSON keys must not contain backslashes");
  }
  return JSON.parse(plain);
}

function spellOut(text: string): string {
  return text.replaceAll(/\\(?:u([0-9a-fA-F]{4})|[^])/g, (escape: string, hex: string | undefined) => {
    if (hex === undefined) return escape;
    const code = Number.parseInt(hex, 16);
    if (code === 0x5c) return "\\\\";
    // Control characters and the quote have to stay escaped.
    return code < 0x20 || code === 0x22 ? escape : String.fromCharCode(code);
  });
}

/** Every string, and whether it is a key: `JSON.stringify` puts the colon right behind. Linear, however long. */
const STRINGS = /"[^"\\]*(?:\\[^][^"\\]*)*"(:?)/g;

/**
 * JSON that we have written with `JSON.stringify`, whatever keys it has; what clients send is for `parseJson`.
 *
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
