/**
 * Reads objects of a client's own bucket with the client's own credentials, for Studio's external `s3://` sources.
 * Reads only, and never what is docyard's: its own bucket is `blob/s3.ts`.
 */

import { setTimeout as sleep } from "node:timers/promises";
import type { GetObjectCommandOutput } from "@aws-sdk/client-s3";
import type { OpenOptions, S3Source, SourceBody } from "@docyard/core";
import { DocyardError, isDocyardError, parseS3Path } from "@docyard/core";
import type { Bucket } from "../s3-bucket.ts";
import { isMissing, openBucket } from "../s3-bucket.ts";
import { ending } from "./transfer.ts";

/** How often a download that broke off is taken up again before a byte must have arrived. */
const RESUMES_MAX = 4;
const RESUME_DELAY_MS = 200;

/** What the sealed text of an API key holds. */
interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
  readonly region?: string;
  /** Of an S3-compatible server other than AWS. Set by an operator, so it may be a private address. */
  readonly endpoint?: string;
}

export function s3Source(): S3Source {
  const closing = new AbortController();
  return {
    async open(s3Path, text, options) {
      const location = parseS3Path(s3Path);
      if (location === null) throw new DocyardError("source_failed", "The s3Path is not s3://bucket/key");
      const { accessKeyId, secretAccessKey, sessionToken, region, endpoint } = readCredentials(text);
      const bucket = await openBucket(
        {
          bucket: location.bucket,
          credentials: {
            accessKeyId,
            secretAccessKey,
            ...(sessionToken === undefined ? {} : { sessionToken }),
          },
          ...(region === undefined ? {} : { region }),
          ...(endpoint === undefined ? {} : { endpoint }),
        },
        closing.signal,
      );
      try {
        return await openObject(bucket, location.key, options);
      } catch (error) {
        bucket.destroy();
        throw told(error, location.bucket);
      }
    },

    async close() {
      if (!closing.signal.aborted) closing.abort(new Error("the S3 source is closed"));
    },
  };
}

/** The object from its first byte on; its client goes with the body. */
async function openObject(bucket: Bucket, key: string, options: OpenOptions): Promise<SourceBody> {
  const { sizeMax, signal } = options;
  const first = await getFrom(bucket, key, 0, undefined, signal);
  const size = first.ContentLength;
  if (size === undefined) throw new Error("S3 did not say how long the object is");
  if (size > sizeMax) {
    discard(first);
    throw new DocyardError("too_large", `File size exceeds the limit of ${sizeMax} bytes`);
  }
  return {
    size,
    contentType: first.ContentType ?? null,
    body: ending(readAll(bucket, key, first, size, signal), () => {
      discard(first);
      bucket.destroy();
    }),
  };
}

/** Every byte once, in order, taken up where it broke off and only from the very same object. */
async function* readAll(
  bucket: Bucket,
  key: string,
  first: GetObjectCommandOutput,
  size: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void, void> {
  let response: GetObjectCommandOutput | undefined = first;
  let position = 0;
  let failures = 0;
  try {
    while (position < size) {
      try {
        response ??= await getFrom(bucket, key, position, first.ETag, signal);
        for await (const chunk of response.Body as unknown as AsyncIterable<Uint8Array>) {
          signal?.throwIfAborted();
          position += chunk.byteLength;
          failures = 0;
          yield chunk;
        }
        if (position < size) throw new Error("the connection ended early");
      } catch (error) {
        signal?.throwIfAborted();
        const failure = told(error, bucket.name);
        if (failure.code !== "upstream_failed" || ++failures > RESUMES_MAX) throw failure;
        await sleep(RESUME_DELAY_MS * failures, undefined, signal === undefined ? {} : { signal });
      }
      discard(response);
      response = undefined;
    }
    if (position > size)
      throw new DocyardError("upstream_failed", `Bucket ${bucket.name} sent too many bytes`);
  } finally {
    discard(response);
  }
}

async function getFrom(
  bucket: Bucket,
  key: string,
  position: number,
  etag: string | undefined,
  signal: AbortSignal | undefined,
): Promise<GetObjectCommandOutput> {
  return bucket.call(signal, (s3, options) =>
    s3.getObject(
      {
        Bucket: bucket.name,
        Key: key,
        ...(position === 0 ? {} : { Range: `bytes=${position}-` }),
        ...(etag === undefined ? {} : { IfMatch: etag }),
      },
      options,
    ),
  );
}

/** Lets go of a body that is not read to its end. */
function discard(response: GetObjectCommandOutput | undefined): void {
  const body = response?.Body as { destroy?: () => void } | undefined;
  body?.destroy?.();
}

/** Errors that stay until somebody acts, by the vendor's names, where their status alone would tell something else. */
const FINAL: Readonly<Record<string, string>> = {
  NoSuchBucket: "there is no such bucket",
  InvalidObjectState: "the object is archived, and must be restored before it can be read",
  ExpiredToken: "the S3 credentials of this API key have expired",
};
const NO_REGION = "the S3 credentials of this API key name no region";

/** The vendor's errors in our words: what will stay so, and what may pass. Names the bucket, never a key or a secret. */
function told(error: unknown, bucket: string): DocyardError {
  const passing = (): DocyardError =>
    new DocyardError("upstream_failed", `Bucket ${bucket} could not be read`, { cause: error });
  // Of several storages that a server knows, this one.
  if (isDocyardError(error, "upstream_failed")) return passing();
  if (isDocyardError(error)) return error;
  const { name = "", $metadata: metadata } = error as {
    readonly name?: string;
    readonly $metadata?: { readonly httpStatusCode?: number };
  };
  const status = metadata?.httpStatusCode;
  const failed = (reason: string): DocyardError =>
    new DocyardError("source_failed", `Bucket ${bucket}: ${reason}`, { cause: error });
  if (isMissing(error)) return failed("there is no such object");
  const words = error instanceof Error && error.message === "Region is missing" ? NO_REGION : FINAL[name];
  if (words !== undefined) return failed(words);
  // Told with the status of a refusal, and passes.
  if (name === "RequestTimeTooSkewed") return passing();
  if (status === 401 || status === 403) return failed("the S3 credentials of this API key are refused");
  if (status === 412) return failed("the object changed while it was being read");
  if (status === 400 || status === 301 || status === 307) {
    return failed("the request is refused: check the region and endpoint of the S3 credentials");
  }
  return passing();
}

/** @throws DocyardError `source_failed` without quoting anything: it is a secret. */
function readCredentials(text: string): Credentials {
  try {
    const value = JSON.parse(text) as Partial<Credentials>;
    if (typeof value.accessKeyId === "string" && typeof value.secretAccessKey === "string") {
      return value as Credentials;
    }
  } catch {
    // Refused below: the parser's message would quote the text.
  }
  throw new DocyardError(
    "source_failed",
    "The S3 credentials of this API key cannot be read: set them again",
  );
}
