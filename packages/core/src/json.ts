/** JSON as types: what metadata, filters and event data are made of. */

export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject;

export interface JsonObject {
  readonly [key: string]: JsonValue;
}

/** True for a JSON object: not null, not an array, not a scalar. */
export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * `JSON.parse`, but safe from another document's keys: V8 compares an escaped key with keys that it has seen in other
 * documents by its raw text (nodejs/node#63785), so that a key sent as `\\u0041` could come out as one that holds a
 * backslash. Escapes that only spell a letter are spelled out first, which leaves nothing to confuse.
 * @throws SyntaxError
 */
export function parseJson(text: string): unknown {
  if (!text.includes("\\u")) return JSON.parse(text);
  const plain = text.replaceAll(/\\(?:u([0-9a-fA-F]{4})|[^])/g, (escape: string, hex: string | undefined) => {
    const code = hex === undefined ? 0 : Number.parseInt(hex, 16);
    // Control characters, the quote and the backslash have to stay escaped.
    return code < 0x20 || code === 0x22 || code === 0x5c ? escape : String.fromCharCode(code);
  });
  return JSON.parse(plain);
}
