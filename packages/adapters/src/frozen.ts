/** Values that several callers share, and none of them may change. */

/** The value itself, frozen with all that is in it: for what nobody else holds. Of a tree of plain objects and lists. */
export function frozen<T>(value: T): T {
  if (typeof value !== "object" || value === null || Object.isFrozen(value)) return value;
  for (const member of Object.values(value)) frozen(member);
  return Object.freeze(value);
}
