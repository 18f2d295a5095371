/**
 * The metadata filter: JSON containment, AND over fields, strict JSON types (ruling 6, contract 30).
 * `match` is the reference; `terms` is how stores answer the same question from an index. Pure.
 */

import { DocyardError } from "./errors.ts";
import type { JsonObject, JsonValue } from "./json.ts";
import { isJsonObject, parseJson } from "./json.ts";

/** An object that must be contained in an artifact's metadata; `{}` matches everything. */
export type Filter = JsonObject;

/** Deepest nesting of metadata and filters: far beyond real use, far below any stack. */
export const METADATA_DEPTH_MAX = 32;
/** Most values (scalars, objects and arrays) in one metadata document: each is one entry of the index. */
export const METADATA_VALUES_MAX = 1_000;
/** Most UTF-8 bytes of metadata as JSON. */
export const METADATA_BYTES_MAX = 65_536;
/** Most values in one filter: each is one index walk. */
export const FILTER_VALUES_MAX = 32;
/** Longest indexed value, in UTF-16 units of its JSON text; longer ones are indexed by their beginning. */
const TERM_VALUE_MAX = 128;
/** Longest indexed path, likewise: with the value at most 1.9 KB of UTF-8, which any B-tree takes (PostgreSQL: 2.7 KB). */
const TERM_PATH_MAX = 512;

const encoder = new TextEncoder();

/**
 * Whether `metadata` contains `filter`:
 * - objects: every key of the filter is there and its value is contained;
 * - arrays: every element of the filter is contained in some element (order and repeats do not matter);
 * - scalars: same JSON type and equal value (`"5"` is not `5`).
 */
export function match(metadata: JsonValue, filter: JsonValue): boolean {
  if (Array.isArray(filter)) {
    return (
      Array.isArray(metadata) &&
      filter.every((wanted: JsonValue) => metadata.some((found: JsonValue) => match(found, wanted)))
    );
  }
  if (isJsonObject(filter)) {
    return (
      isJsonObject(metadata) &&
      Object.keys(filter).every((key) => Object.hasOwn(metadata, key) && match(metadata[key]!, filter[key]!))
    );
  }
  return metadata === filter;
}

/** One entry of the index: where a value stands and what it is, both as unambiguous text without NUL. */
export interface Term {
  /** JSON strings joined by dots, `[]` for "any element": `"address"."city"`, `"tags"[]`. */
  readonly path: string;
  /** A scalar as JSON text (cut at a fixed length), `{` for an object, `[` for an array. */
  readonly value: string;
}

/**
 * Every distinct term of a document but for the root. A document that matches a filter has all of the filter's
 * terms; the other direction holds when `isExact(filter)`.
 * JSON text keeps types apart and escapes NUL and unpaired surrogates, which databases would refuse or alter.
 */
export function terms(document: JsonObject): Term[] {
  const found = new Map<string, Term>();
  const add = (path: string, value: string): void => {
    const term = { path: cut(path, TERM_PATH_MAX), value: cut(value, TERM_VALUE_MAX) };
    found.set(`${term.path}\n${term.value}`, term);
  };
  const walk = (value: JsonValue, path: string): void => {
    if (Array.isArray(value)) {
      add(path, "[");
      for (const element of value as readonly JsonValue[]) walk(element, `${path}[]`);
    } else if (isJsonObject(value)) {
      if (path !== "") add(path, "{");
      for (const [key, member] of Object.entries(value)) {
        walk(member, path === "" ? JSON.stringify(key) : `${path}.${JSON.stringify(key)}`);
      }
    } else {
      add(path, JSON.stringify(value));
    }
  };
  walk(document, "");
  return [...found.values()];
}

/** The beginning of a text, never half of a surrogate pair. */
function cut(text: string, lengthMax: number): string {
  return text.slice(0, lengthMax).replace(/[\ud800-\udbff]$/, "");
}

/**
 * Whether having all of the filter's terms is enough to match it. Not so with arrays (which element?) and with
 * paths or values longer than a term holds; then a store checks its candidates with `match`.
 */
export function isExact(filter: Filter): boolean {
  const walk = (value: JsonValue, pathLength: number): boolean => {
    if (pathLength >= TERM_PATH_MAX || Array.isArray(value)) return false;
    if (!isJsonObject(value)) return JSON.stringify(value).length < TERM_VALUE_MAX;
    return Object.entries(value).every(([key, member]) =>
      walk(member, pathLength + JSON.stringify(key).length + 1),
    );
  };
  return walk(filter, 0);
}

/**
 * The filter in a `metadata=` query value. A value that is no JSON is read once more inside braces: curl without `-g`
 * removes them (contract 1D).
 * @throws DocyardError `invalid_argument`
 */
export function parseFilter(text: string): Filter {
  let value: unknown;
  try {
    value = parseJson(text);
  } catch {
    try {
      value = parseJson(`{${text}}`);
    } catch {
      value = undefined;
    }
  }
  if (!isJsonObject(value)) {
    throw new DocyardError(
      "invalid_argument",
      'metadata must be a JSON object, for example {"patientId":"12345"}',
    );
  }
  requireFilter(value);
  return value;
}

/** @throws DocyardError `invalid_argument` for a filter that is too deep, has too many values, or a number too large. */
export function requireFilter(filter: Filter): void {
  const fault = shapeFault(filter, "metadata", FILTER_VALUES_MAX);
  if (fault !== null) throw new DocyardError("invalid_argument", fault);
}

/** Why this metadata is refused, or null: too deep, too many values, too large, a number beyond JavaScript's. */
export function metadataFault(metadata: JsonObject): string | null {
  const fault = shapeFault(metadata, "metadata", METADATA_VALUES_MAX);
  if (fault !== null) return fault;
  const text = JSON.stringify(metadata);
  // No UTF-16 unit takes more than three bytes: most documents need not be encoded to be short enough.
  const isShort = text.length * 3 <= METADATA_BYTES_MAX || encoder.encode(text).length <= METADATA_BYTES_MAX;
  return isShort ? null : `metadata must be at most ${METADATA_BYTES_MAX} bytes of JSON`;
}

/** Walks breadth first, so that no nesting, however deep, can exhaust the stack. */
function shapeFault(document: JsonObject, name: string, valuesMax: number): string | null {
  let level: JsonValue[] = [document];
  let values = 0;
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > METADATA_DEPTH_MAX) {
      return `${name} must not be nested deeper than ${METADATA_DEPTH_MAX}`;
    }
    values += level.length;
    if (values - 1 > valuesMax) return `${name} must have at most ${valuesMax} values`;
    const next: JsonValue[] = [];
    for (const value of level) {
      // JSON.parse makes Infinity of 1e400, and JSON.stringify makes null of that.
      if (typeof value === "number" && !Number.isFinite(value)) {
        return `${name} must not have numbers beyond ${Number.MAX_VALUE}`;
      }
      if (typeof value === "object" && value !== null)
        for (const each of Object.values(value)) next.push(each);
    }
    level = next;
  }
  return null;
}
