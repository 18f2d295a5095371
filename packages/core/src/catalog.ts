/**
 * What a dock shows: pages, single artifacts, and deletion. Only the artifacts of the face that asks.
 * Filters and page numbers are `filter.ts` and `page.ts`; finding rows is the store's.
 */

import type { Dock, Principal } from "./access.ts";
import type { Artifact, ArtifactSummary, Face, MediaType, VisibleStatus } from "./artifact.ts";
import { isId } from "./artifact.ts";
import type { Context } from "./context.ts";
import { bug, invalid, newEvent, ROUNDS_MAX, shown, signDownload, tombstone } from "./context.ts";
import { DocyardError } from "./errors.ts";
import type { Filter } from "./filter.ts";
import { requireFilter } from "./filter.ts";
import type { PageNumbers, PageStart } from "./page.ts";
import { clampLimit, decodeCursor, PAGE_LIMIT_DEFAULT, pageNumbers } from "./page.ts";
import type { SignedUrl } from "./ports.ts";

export interface ListInput {
  /** Clamped to 1000; default 20. */
  readonly limit?: number;
  readonly offset?: number;
  /** A `nextCursor`; not together with `offset`. */
  readonly cursor?: string;
  readonly search?: string;
  readonly filter?: Filter;
  readonly createdAfter?: number;
  readonly createdBefore?: number;
  /** Default: completed ones only, since every listed URL must work (ruling 6). */
  readonly statuses?: readonly VisibleStatus[];
  readonly mediaType?: MediaType;
}

/** An artifact with a URL for its bytes; null while it has none. */
export interface Listed<A extends ArtifactSummary = ArtifactSummary> {
  readonly artifact: A;
  readonly download: SignedUrl | null;
}

/** One page of a dock's artifacts, each with a fresh download URL. */
export async function listArtifacts(
  context: Context,
  dock: Dock,
  face: Face,
  principal: Principal,
  input: ListInput,
): Promise<{ items: Listed[]; page: PageNumbers }> {
  const { start, limit } = checkPaging(input);
  const { statuses = ["upload_completed"], filter, search, createdAfter, createdBefore, mediaType } = input;
  if (filter !== undefined) requireFilter(filter);
  const found = await context.artifacts.find({
    dockId: dock.id,
    face,
    statuses,
    ...(filter === undefined ? {} : { filter }),
    ...(search === undefined ? {} : { search }),
    ...(createdAfter === undefined ? {} : { createdAfter }),
    ...(createdBefore === undefined ? {} : { createdBefore }),
    ...(mediaType === undefined ? {} : { mediaType }),
    start,
    limit,
  });
  // All at once: most stores sign without waiting, and awaiting each would cost as much as signing it.
  const downloads = await Promise.all(
    found.rows.map((artifact) => signDownload(context, artifact, principal)),
  );
  const items = found.rows.map((artifact, i) => ({ artifact, download: downloads[i] ?? null }));
  return { items, page: pageNumbers(start, limit, found) };
}

/** @throws DocyardError `not_found` for what this face of this dock must not show. */
export async function getArtifact(
  { artifacts }: Context,
  dock: Dock,
  face: Face,
  id: string,
): Promise<Artifact> {
  const artifact = isId(id) ? await artifacts.get({ id }) : null;
  if (
    artifact === null ||
    artifact.dockId !== dock.id ||
    artifact.face !== face ||
    artifact.status === "deleted"
  ) {
    throw new DocyardError("not_found", `Artifact ${shown(id)} not found in dock ${dock.id}`);
  }
  return artifact;
}

/** Leaves a tombstone; the bytes go after the grace period, unless another artifact shares them. */
export async function removeArtifact(
  context: Context,
  dock: Dock,
  face: Face,
  principal: Principal,
  id: string,
): Promise<void> {
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const artifact = await getArtifact(context, dock, face, id);
    const removed = await context.artifacts.update(
      id,
      artifact.version,
      tombstone(context, artifact),
      newEvent(context, "artifact.deleted", principal.id),
    );
    if (removed !== null) return;
  }
  throw bug(`artifact ${id} kept changing while it was being deleted`);
}

function checkPaging(input: ListInput): { start: PageStart; limit: number } {
  const issues: string[] = [];
  const { limit = PAGE_LIMIT_DEFAULT, offset = 0 } = input;
  if (!(Number.isSafeInteger(limit) && limit >= 1)) issues.push("limit must be an integer of at least 1");
  if (!(Number.isSafeInteger(offset) && offset >= 0)) issues.push("offset must be an integer of at least 0");
  if (input.cursor !== undefined && input.offset !== undefined) {
    issues.push("cursor and offset cannot be combined");
  }
  // No filename has either, and no database takes both.
  if (input.search !== undefined && (!input.search.isWellFormed() || input.search.includes("\0"))) {
    issues.push("search must be well-formed text without NUL");
  }
  if (input.statuses?.length === 0) issues.push("status must name at least one status");
  if (issues.length > 0) throw invalid(issues);
  return {
    start: input.cursor === undefined ? { offset } : { after: decodeCursor(input.cursor) },
    limit: clampLimit(limit),
  };
}
