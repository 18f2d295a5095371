/**
 * Copies an upload to its final key so that nothing sent meanwhile can end up there, on servers that promise little.
 * The bytes to be published are first made unreachable for clients, then verified, then copied.
 */

import { createHash, randomUUID } from "node:crypto";
import type { Bucket, ObjectFacts } from "../s3-bucket.ts";
import { attestedDigest, isMissing, statObject } from "../s3-bucket.ts";
import { beginMultipart } from "./s3-multipart.ts";
import { digestObject } from "./s3-read.ts";

export interface VerifiedCopy {
  readonly from: string;
  readonly to: string;
  readonly expected: { readonly size: number; readonly digest: string };
}

export interface CopyLimits {
  /** Up to here the bytes go through this process: two requests instead of four, and nothing can change in between. */
  readonly inlineMax: number;
  /** Most bytes of one CopyObject. */
  readonly singleMax: number;
  /** Bytes per part of a copy beyond that. */
  readonly partBytes: number;
}

/** `singleMax` is by S3's rules; tests hand in smaller ones. */
const COPY_LIMITS: CopyLimits = {
  inlineMax: 8 * 1024 ** 2,
  singleMax: 5 * 1024 ** 3,
  partBytes: 1024 ** 3,
};

/**
 * See `BlobStore.copy`. A condition on the ETag would not do: an ETag is an MD5, of which a client can make two bodies
 * alike, and Ceph 16 ignores conditions on copies altogether (tried). So larger objects are copied beside `from`, under
 * a name no URL was ever signed for, verified there, and copied on.
 */
export async function copyVerified(
  bucket: Bucket,
  copy: VerifiedCopy,
  limits: CopyLimits = COPY_LIMITS,
): Promise<boolean> {
  const { from, to, expected } = copy;
  // `to` names its content and only verified bytes ever get there: what is there is right.
  if (matches(await statObject(bucket, to), expected)) return true;
  const staged = await statObject(bucket, from);
  if (!matches(staged, expected)) return false;
  return expected.size <= limits.inlineMax ? copyInline(bucket, copy) : copyAside(bucket, copy, limits);
}

function matches(found: ObjectFacts | null, expected: VerifiedCopy["expected"]): found is ObjectFacts {
  return (
    found !== null &&
    found.size === expected.size &&
    (found.digest === null || found.digest === expected.digest)
  );
}

async function copyInline(bucket: Bucket, { from, to, expected }: VerifiedCopy): Promise<boolean> {
  const bytes = await bucket.call(undefined, async (s3, options) => {
    try {
      const { Body, ContentLength } = await s3.getObject({ Bucket: bucket.name, Key: from }, options);
      if (ContentLength === expected.size) return await Body?.transformToByteArray();
      (Body as { destroy?(): void } | undefined)?.destroy?.();
      return undefined;
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  });
  if (bytes === undefined || createHash("sha256").update(bytes).digest("hex") !== expected.digest)
    return false;
  await bucket.call(undefined, (s3, options) =>
    s3.putObject({ Bucket: bucket.name, Key: to, Body: bytes }, options),
  );
  return true;
}

async function copyAside(
  bucket: Bucket,
  { from, to, expected }: VerifiedCopy,
  limits: CopyLimits,
): Promise<boolean> {
  const aside = `${from}.copy-${randomUUID()}`;
  try {
    const copied = await copyObject(bucket, from, aside, expected.size, limits);
    if (copied === null) return false;
    const held = copied.digest ?? (await digestObject(bucket, aside))?.digest;
    if (held !== expected.digest) return false;
    if ((await copyObject(bucket, aside, to, expected.size, limits)) === null) {
      throw new Error("The copy to be published is gone");
    }
    return true;
  } finally {
    // Best effort: it lies with the uploads, where the sweep finds what is old.
    await bucket
      .call(undefined, (s3, options) => s3.deleteObject({ Bucket: bucket.name, Key: aside }, options))
      .catch(() => {});
  }
}

/** Null where `from` is gone, or was replaced by something shorter during a copy in parts. */
async function copyObject(
  bucket: Bucket,
  from: string,
  to: string,
  size: number,
  limits: CopyLimits,
): Promise<{ digest: string | null } | null> {
  const CopySource = `${bucket.name}/${from}`;
  try {
    if (size > limits.singleMax) {
      return await copyInParts(bucket, CopySource, to, { size, partBytes: limits.partBytes });
    }
    const { CopyObjectResult } = await bucket.callSlow(undefined, (s3, options) =>
      s3.copyObject({ Bucket: bucket.name, Key: to, CopySource }, options),
    );
    return { digest: await attestedDigest(bucket, CopyObjectResult ?? {}) };
  } catch (error) {
    if (isMissing(error)) return null;
    const now = await statObject(bucket, from);
    if (now === null || now.size !== size) return null;
    throw error;
  }
}

async function copyInParts(
  bucket: Bucket,
  CopySource: string,
  to: string,
  { size, partBytes }: { readonly size: number; readonly partBytes: number },
): Promise<{ digest: null }> {
  const at = { Bucket: bucket.name, Key: to };
  const upload = await beginMultipart(bucket, at, undefined);
  try {
    const tags: (string | undefined)[] = [];
    for (const CopySourceRange of copyRanges(size, partBytes)) {
      const part = { UploadId: upload.UploadId, PartNumber: tags.length + 1, CopySource, CopySourceRange };
      const { CopyPartResult } = await bucket.callSlow(undefined, (s3, options) =>
        s3.uploadPartCopy({ ...at, ...part }, options),
      );
      tags.push(CopyPartResult?.ETag);
    }
    await upload.complete(tags, size);
    return { digest: null };
  } catch (error) {
    await upload.abort();
    throw error;
  }
}

/** The ranges of a copy in parts, inclusive as HTTP has them. */
export function copyRanges(size: number, partBytes: number): string[] {
  const ranges: string[] = [];
  for (let start = 0; start < size; start += partBytes) {
    ranges.push(`bytes=${start}-${Math.min(size, start + partBytes) - 1}`);
  }
  return ranges;
}
