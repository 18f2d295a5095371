/**
 * The metadata filter as SQL stores see it: which terms a row is indexed by, and whether a filter's terms decide it.
 * Their meaning is `match` in core; looking them up is in `sql-plan.ts`.
 */

import type { Filter, JsonObject, JsonValue, MediaType, Term } from "@docyard/core";
import { isExact, isJsonObject, terms } from "@docyard/core";

/**
 * The terms of a row or a query, always in the same order: two writers who touch the same terms do so one after the
 * other, and never wait for each other in a circle. The kind of media is the term of the empty path, which no document
 * has.
 */
export function storedTerms(document: JsonObject, mediaType: MediaType | null | undefined): Term[] {
  const found = terms(document);
  if (mediaType !== null && mediaType !== undefined) found.push({ path: "", value: mediaType });
  return found.sort(compareTerms);
}

export function compareTerms(a: Term, b: Term): number {
  return compare(a.path, b.path) || compare(a.value, b.value);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/**
 * Whether a document that has all of the filter's terms always matches it. `isExact` says so where there are no
 * arrays. Here they are looked into: whether some element has one certain leaf is what a term tells; only where
 * several leaves must stand in the *same* element does the document have to be read.
 */
export function termsDecide(filter: Filter): boolean {
  return elementsAreChains(filter) && isExact(withoutArrays(filter) as Filter);
}

function elementsAreChains(value: JsonValue): boolean {
  if (Array.isArray(value)) return value.every((element: JsonValue) => isChain(element));
  return !isJsonObject(value) || Object.values(value).every(elementsAreChains);
}

/** Whether a value has one leaf at most. */
function isChain(value: JsonValue): boolean {
  if (typeof value !== "object" || value === null) return true;
  const members = Object.values(value);
  return members.length === 0 || (members.length === 1 && isChain(members[0]!));
}

/** The same leaves under paths that are not shorter: arrays as objects whose keys are the indexes. */
function withoutArrays(value: JsonValue): JsonValue {
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, withoutArrays(member)]));
}
