/**
 * What an error's code says, whoever made the error: the operating system, a database, a client library. What a code
 * means, and what follows from it, is left to the callers.
 */

/** The code of an error, such as `ENOENT`, `SQLITE_BUSY` or an SQLSTATE; an empty string where it has none. */
export function codeOf(error: unknown): string {
  if (typeof error !== "object" || error === null || !("code" in error)) return "";
  return typeof error.code === "string" ? error.code : "";
}
