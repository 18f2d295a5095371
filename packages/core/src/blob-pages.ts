/**
 * All blobs below a prefix, a bounded number at a time: for walks through everything that is kept. What a walk does with
 * them, and where it begins again after a stop, is its own.
 */

import type { BlobStore } from "./ports.ts";

/** Blobs listed at a time. */
const PAGE = 1_000;

/**
 * Pages in the order of keys, from the one behind `after`; the last of them may be empty. What is removed or added
 * behind the walk meanwhile changes nothing for it. Rejects with the signal's reason once that aborts.
 */
export async function* blobPages(
  blobs: Pick<BlobStore, "list">,
  prefix: string,
  { after = "", signal }: { readonly after?: string; readonly signal?: AbortSignal | undefined } = {},
): AsyncGenerator<Awaited<ReturnType<BlobStore["list"]>>, void, void> {
  for (let last = after; ;) {
    signal?.throwIfAborted();
    const page = await blobs.list(prefix, { limit: PAGE, after: last });
    yield page;
    if (page.length < PAGE) return;
    last = page.at(-1)!.key;
  }
}
