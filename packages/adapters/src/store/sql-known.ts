/**
 * Remembers the pages that were read last, for those who look again whether there is anything new. A page holds while the
 * change number of its listing stands still. Sound across processes, because that number is read again each time, and
 * each page in one moment with it.
 */

import type { FindQuery, Found } from "@docyard/core";
import { setBounded } from "../bounded-map.ts";
import { frozen } from "../frozen.ts";
import type { SummaryRow } from "./schema.ts";
import type { Changed } from "./sql-recent.ts";

/** Pages remembered: of 20 ordinary rows each, a megabyte or two; of the largest, some fifteen. */
const PAGES_MAX = 64;
/** Most rows of a page that is remembered. */
const ROWS_MAX = 100;
/** Longest metadata of all its rows, in UTF-16 units of JSON. */
const METADATA_MAX = 32_768;
/** Longest query, likewise. */
const KEY_MAX = 1_000;

export interface KnownPages {
  /** The page as it is now, if it has been read since its listing last changed. */
  page(listing: Changed, query: FindQuery): Found | undefined;
  /** @param rows what the page was made of */
  remember(listing: Changed, query: FindQuery, found: Found, rows: readonly SummaryRow[]): void;
}

export function createKnownPages(): KnownPages {
  const pages = new Map<string, { readonly changes: number; readonly found: Found }>();
  return {
    page(listing, query) {
      const key = keyOf(listing, query);
      const known = key === null ? undefined : pages.get(key);
      return known?.changes === listing.changes ? known.found : undefined;
    },
    remember(listing, query, found, rows) {
      const key = keyOf(listing, query);
      if (key === null || rows.length > ROWS_MAX) return;
      if (rows.reduce((sum, { metadata }) => sum + metadata.length, 0) > METADATA_MAX) return;
      setBounded(pages, key, { changes: listing.changes, found: frozen(found) }, PAGES_MAX);
    },
  };
}

/** Null for what is not remembered: rows of other listings, and pages of a walk, which comes past each of them once. */
function keyOf({ n }: Changed, query: FindQuery): string | null {
  const { statuses, filter, search, mediaType, createdAfter, createdBefore, start, limit } = query;
  if (start.offset === undefined || statuses.some((status) => status !== "upload_completed")) return null;
  const key = JSON.stringify([
    n,
    start.offset,
    limit,
    filter,
    search,
    mediaType,
    createdAfter,
    createdBefore,
  ]);
  return key.length <= KEY_MAX ? key : null;
}
