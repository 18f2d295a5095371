/**
 * What both faces do with what a client sent: an object is held against its shape, a query against its readers, and
 * every fault is told at once. Which fields there are, and in which words, is left to the wire files.
 */

import { DocyardError, isDocyardError, isJsonObject } from "@docyard/core";
import type { z } from "zod";

/** One `invalid_argument` for several faults. */
export function invalid(issues: readonly string[]): DocyardError {
  return new DocyardError("invalid_argument", issues.join("; "), { issues });
}

/** @throws DocyardError `invalid_argument` with one issue per fault, as `say` words it. */
export function parseShape<T>(
  shape: z.ZodType<T>,
  body: unknown,
  say: (issue: z.core.$ZodIssue) => string = ({ message }) => message,
): T {
  if (!isJsonObject(body)) throw new DocyardError("invalid_argument", "Request body must be a JSON object");
  const result = shape.safeParse(body);
  if (result.success) return result.data;
  throw invalid(result.error.issues.map(say));
}

export function queryOf(url: string): URLSearchParams {
  const [target = ""] = url.split("#", 1);
  const mark = target.indexOf("?");
  return new URLSearchParams(mark < 0 ? "" : target.slice(mark + 1));
}

/**
 * Hands each parameter that is there to its reader. What a reader refuses, or is there twice, is refused and never
 * ignored: a filter that falls away shows other patients' documents (contract 2). So is one with brackets behind its
 * name, as some clients that are generated from an API's document write objects and lists. Unknown ones are ignored.
 * @throws DocyardError `invalid_argument` with one issue per fault.
 */
export function readQuery(
  query: URLSearchParams,
  readers: Readonly<Record<string, (value: string) => void>>,
): void {
  const issues: string[] = [];
  const names = [...query.keys()];
  for (const [name, read] of Object.entries(readers)) {
    if (names.some((one) => one.startsWith(`${name}[`))) {
      issues.push(`${name} must be one value, without brackets behind its name`);
    }
    const [value, ...others] = query.getAll(name);
    if (value === undefined) continue;
    if (others.length > 0) {
      issues.push(`${name} must be given once`);
      continue;
    }
    try {
      read(value);
    } catch (error) {
      if (!isDocyardError(error, "invalid_argument")) throw error;
      issues.push(error.message);
    }
  }
  if (issues.length > 0) throw invalid(issues);
}
