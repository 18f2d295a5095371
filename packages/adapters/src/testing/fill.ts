/**
 * Fills a dock of the test double with completed artifacts: through core's own create and complete, with the bytes put
 * where a client's upload lands, so that what is there is what clients could have made.
 */

import type { Artifact, BlobStore, CreateInput, WritableDock } from "@docyard/core";

/** An artifact to be there; what is left out is made up. */
export interface SeedArtifact extends Partial<Pick<CreateInput, "filename" | "contentType" | "metadata">> {
  /** Default: a line of text that no other artifact has. */
  readonly bytes?: Uint8Array | string;
}

/** Adds the artifacts one after the other; of equal bytes the one that was there first comes back. */
export async function fill(
  dock: WritableDock,
  blobs: BlobStore,
  wanted: readonly SeedArtifact[],
  firstNumber: number,
): Promise<Artifact[]> {
  const made: Artifact[] = [];
  for (const [index, { bytes, ...given }] of wanted.entries()) {
    const number = firstNumber + index;
    const content = bytes ?? `artifact ${number}\n`;
    const body = typeof content === "string" ? new TextEncoder().encode(content) : content;
    const { artifact } = await dock.create({
      filename: `artifact-${String(number).padStart(4, "0")}.txt`,
      contentType: "text/plain",
      ...given,
    });
    await blobs.put(artifact.stagingKey!, once(body), { sizeMax: body.byteLength });
    made.push((await dock.complete({ uploadId: artifact.uploadId! })).artifact);
  }
  return made;
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array, void, void> {
  yield bytes;
}
