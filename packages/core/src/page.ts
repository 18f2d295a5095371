/** Pages: limits, offsets, the cursor of a stable walk, and the numbers a face shows. Pure. */

import { DocyardError } from "./errors.ts";

/** Page size where the client names none (contract 1). */
export const PAGE_LIMIT_DEFAULT = 20;
/** Largest page; more is clamped, not refused (contract 2). */
export const PAGE_LIMIT_MAX = 1_000;

/** A position in the list's order: newest first, ids break ties (contract 33). */
export interface Position {
  readonly createdAt: number;
  readonly id: string;
}

/** Where a page begins: after so many rows, or strictly after a row. */
export type PageStart =
  | { readonly offset: number; readonly after?: never }
  | { readonly after: Position; readonly offset?: never };

export interface PageNumbers {
  /** 1-based; counted from the offset, 1 on a cursor walk's first page only. */
  readonly page: number;
  readonly pageSize: number;
  readonly total: number;
  readonly hasMore: boolean;
  /** Pass as `cursor=` to go on without losing or repeating rows while new ones arrive; null at the end. */
  readonly nextCursor: string | null;
}

/** Negative when `a` comes before `b` in the list, 0 when they are the same position. */
export function compareNewestFirst(a: Position, b: Position): number {
  if (a.createdAt !== b.createdAt) return b.createdAt - a.createdAt;
  return a.id < b.id ? 1 : a.id > b.id ? -1 : 0;
}

/** An opaque, URL-safe name for a position. */
export function encodeCursor({ createdAt, id }: Position): string {
  return btoa(`${createdAt}:${id}`).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

const CURSOR = /^(\d{1,16}):([A-Za-z0-9_-]{1,64})$/;

/** @throws DocyardError `invalid_argument` for anything `encodeCursor` did not make. */
export function decodeCursor(cursor: string): Position {
  let text = "";
  try {
    text = atob(cursor.replaceAll("-", "+").replaceAll("_", "/"));
  } catch {
    // Not base64: refused below, like any other text that is no cursor.
  }
  const parts = CURSOR.exec(text);
  const position = parts === null ? null : { createdAt: Number(parts[1]), id: parts[2]! };
  // Base64 has many spellings of one text (padding, white space, unused bits): only the one we wrote is a cursor.
  if (position === null || encodeCursor(position) !== cursor) {
    const issue = "cursor must be a nextCursor of an earlier page";
    throw new DocyardError("invalid_argument", issue, { issues: [issue] });
  }
  return position;
}

export function clampLimit(limit: number): number {
  return Math.min(limit, PAGE_LIMIT_MAX);
}

/** The numbers beside a page of rows that the store found. */
export function pageNumbers(
  start: PageStart,
  limit: number,
  found: { readonly rows: readonly Position[]; readonly total: number; readonly more: boolean },
): PageNumbers {
  const last = found.rows.at(-1);
  return {
    page: Math.floor((start.offset ?? 0) / limit) + 1,
    pageSize: limit,
    total: found.total,
    hasMore: found.more,
    nextCursor: found.more && last !== undefined ? encodeCursor(last) : null,
  };
}
