/** JSON as types: what metadata, filters and event data are made of. */

export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject;

export interface JsonObject {
  readonly [key: string]: JsonValue;
}

/** True for a JSON object: not null, not an array, not a scalar. */
export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Every string, and whether it is a key: nothing but white space before the colon. Linear in valid JSON. */
const STRINGS = /"[^"\\]*(?:\\[^][^"\\]*)*"(\s*:)?/g;

/**
 * `JSON.parse`, but with the keys that stand there: V8 may give a key with an escape the name of any other object's key
 * that starts like its raw text (nodejs/node#63785), so that a client's key `\\`, in a document or anywhere else in the
 * process, renames another's `\u0000`. Keys with escapes are spelled in digits first, and named afterwards.
 * @throws SyntaxError for what is no JSON
 */
export function parseJson(text: string): JsonValue {
  // What is no JSON stops here: only of valid text do the strings say where they start and end.
  const value = JSON.parse(text) as JsonValue;
  if (!text.includes("\\") || !hasEscapedKey(text)) return value;
  const spelled = text.replaceAll(STRINGS, (string: string, colon: string | undefined) =>
    colon === undefined ? string : `"${spell(JSON.parse(string.slice(0, -colon.length)) as string)}":`,
  );
  return named(JSON.parse(spelled) as JsonValue);
}

function hasEscapedKey(text: string): boolean {
  for (const [string, colon] of text.matchAll(STRINGS)) {
    if (colon !== undefined && string.includes("\\")) return true;
  }
  return false;
}

/** A key as hexadecimal digits, four for each UTF-16 unit, behind a letter that makes it no array index. */
function spell(key: string): string {
  let digits = "k";
  for (let i = 0; i < key.length; i++) digits += key.charCodeAt(i).toString(16).padStart(4, "0");
  return digits;
}

function unspell(digits: string): string {
  return digits.slice(1).replaceAll(/.{4}/g, (unit) => String.fromCharCode(Number.parseInt(unit, 16)));
}

/** Keys in digits by their names again; without recursion, since nothing has bounded the nesting yet. */
function named(document: JsonValue): JsonValue {
  const whole: Record<string, JsonValue> = { document };
  const open: Record<string, JsonValue>[] = [whole];
  for (let holder = open.pop(); holder !== undefined; holder = open.pop()) {
    for (const [at, value] of Object.entries(holder)) {
      if (typeof value !== "object" || value === null) continue;
      const members = isJsonObject(value)
        ? Object.fromEntries(Object.entries(value).map(([digits, member]) => [unspell(digits), member]))
        : value;
      holder[at] = members;
      open.push(members as Record<string, JsonValue>);
    }
  }
  return whole["document"]!;
}
