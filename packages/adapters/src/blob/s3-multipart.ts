/**
 * One multipart upload: begun, completed in one step whose answer may get lost (lesson R-04), or aborted.
 * What its parts are and where their bytes come from is left to `s3-put.ts` and `s3-copy.ts`.
 */

import { randomUUID } from "node:crypto";
import type { Bucket } from "../s3-bucket.ts";
import { statObject } from "../s3-bucket.ts";

/** Metadata by which an object is recognised as the one that this upload has made. */
const UPLOAD_MARK = "docyard-upload";

export interface MultipartUpload {
  readonly UploadId: string;
  /**
   * Makes the object of these parts, by their ETags in order.
   * @param size what they are together, in bytes
   */
  complete(tags: readonly (string | undefined)[], size: number): Promise<void>;
  /** Best effort: what it leaves is `dropUnfinished`'s to find. */
  abort(): Promise<void>;
}

/** @param signal ends everything but `abort` */
export async function beginMultipart(
  bucket: Bucket,
  at: { readonly Bucket: string; readonly Key: string },
  signal: AbortSignal | undefined,
): Promise<MultipartUpload> {
  const mark = randomUUID();
  const { UploadId } = await bucket.call(signal, (s3, options) =>
    s3.createMultipartUpload({ ...at, Metadata: { [UPLOAD_MARK]: mark } }, options),
  );
  if (UploadId === undefined) throw new Error("S3 began an upload without an id");
  return {
    UploadId,
    async complete(tags, size) {
      const Parts = tags.map((ETag, index) => ({ ETag, PartNumber: index + 1 }));
      try {
        await bucket.callSlow(signal, (s3, options) =>
          s3.completeMultipartUpload({ ...at, UploadId, MultipartUpload: { Parts } }, options),
        );
      } catch (error) {
        signal?.throwIfAborted();
        // The answer may have got lost after the deed: look before saying it failed.
        const found = await statObject(bucket, at.Key).catch(() => null);
        if (found === null || found.size !== size || found.metadata[UPLOAD_MARK] !== mark) throw error;
      }
    },
    async abort() {
      await bucket
        .call(undefined, (s3, options) => s3.abortMultipartUpload({ ...at, UploadId }, options))
        .catch(() => {});
    },
  };
}
