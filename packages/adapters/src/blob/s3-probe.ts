/**
 * Tries on a bucket all that docyard does with one, and what servers are known to differ in: checksums, conditions,
 * addressing, clocks, CORS. Leaves nothing behind; working with a bucket is `s3.ts`.
 */

import { createHash, randomBytes } from "node:crypto";
import type { S3, S3ServiceException } from "@aws-sdk/client-s3";
import type { Finding } from "../probe.ts";
import { clockFinding, failing, ok, warning } from "../probe.ts";
import { isDocyardError } from "@docyard/core";
import type { Bucket } from "../s3-bucket.ts";
import { openBucket } from "../s3-bucket.ts";
import type { S3BlobsOptions } from "./s3.ts";
import { createPresigner } from "./s3-sign.ts";

/** How long one request may take, in milliseconds. */
const TIMEOUT_MS = 5_000;
/** The life of URLs signed for a try, in milliseconds. */
const URL_TTL_MS = 60_000;
/** Any page's: what is asked is whether pages may send at all. */
const ORIGIN = "https://docyard.invalid";
/** Seconds are all that HTTP's dates show. */
const DATE_RESOLUTION_MS = 1_000;

interface Try {
  readonly bucket: Bucket;
  readonly options: S3BlobsOptions;
  /** Of this probe alone, and no docyard key. */
  readonly key: string;
  readonly bytes: Buffer;
  readonly send: <T>(request: (s3: S3, options: { abortSignal: AbortSignal }) => Promise<T>) => Promise<T>;
}

/** Never rejects: what cannot be reached is a finding, too. No credential and no signed URL is in any of them. */
export async function probeS3(options: S3BlobsOptions): Promise<Finding[]> {
  const closing = new AbortController();
  const findings: Finding[] = [];
  let bucket: Bucket;
  try {
    bucket = await openBucket({ ...options, attempts: 1, idleTimeoutMs: TIMEOUT_MS }, closing.signal);
  } catch (error) {
    return [failing("address", told(error), "correct --blob")];
  }
  const at: Try = {
    bucket,
    options,
    key: `${bucket.prefix}.docyard/doctor-${randomBytes(8).toString("hex")}`,
    bytes: randomBytes(1_000),
    send: async (request) => {
      try {
        return await bucket.call(AbortSignal.timeout(TIMEOUT_MS), request);
      } catch (error) {
        // An operator wants the server's own words, not ours for clients.
        throw isDocyardError(error, "upstream_failed") ? error.cause : error;
      }
    },
  };
  try {
    const reach = await readAndWrite(at);
    findings.push(...reach);
    // Whatever comes next would only say the same again.
    if (reach.some(({ outcome }) => outcome === "failing")) return findings;
    for (const probe of [checksums, conditionalPut, conditionalCopy, multipart, signedUrls, cors]) {
      findings.push(await probe(at));
    }
    return findings;
  } finally {
    for (const suffix of ["", "-copy", "-once", "-signed"]) {
      await at
        .send((s3, call) => s3.deleteObject({ Bucket: bucket.name, Key: at.key + suffix }, call))
        .catch(() => {});
    }
    closing.abort(new Error("the probe is over"));
    bucket.destroy();
  }
}

async function readAndWrite({ bucket, key, bytes, options, send }: Try): Promise<Finding[]> {
  const at = { Bucket: bucket.name, Key: key };
  try {
    await send((s3, call) => s3.putObject({ ...at, Body: bytes }, call));
    const read = await send(async (s3, call) => (await s3.getObject(at, call)).Body?.transformToByteArray());
    if (read === undefined || !bytes.equals(read)) {
      return [failing("bytes", "other bytes came back than were written", "use another server")];
    }
    await send((s3, call) => s3.listObjectsV2({ Bucket: bucket.name, Prefix: key, MaxKeys: 1 }, call));
  } catch (error) {
    return [failing("read and write", told(error), fixFor(error, options))];
  }
  const isPathStyle = options.forcePathStyle ?? options.endpoint !== undefined;
  return [
    ok("read and write", "write, read and list work"),
    ok("addressing", isPathStyle ? "path style works" : "virtual-hosted style works"),
    await clock(bucket),
  ];
}

/** The server's clock, by the Date of any answer: without it every signature is refused, and the errors mislead. */
async function clock(bucket: Bucket): Promise<Finding> {
  const asked = Date.now();
  try {
    const { protocol, hostname, port } = await endpointOf(bucket);
    const answer = await fetch(`${protocol}//${hostname}${port === undefined ? "" : `:${port}`}/`, {
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    await answer.body?.cancel();
    const date = Date.parse(answer.headers.get("date") ?? "");
    if (Number.isNaN(date)) return ok("clock", "not shown; signatures are accepted");
    return clockFinding(date, asked, Date.now(), DATE_RESOLUTION_MS);
  } catch {
    return ok("clock", "not shown; signatures are accepted");
  }
}

async function endpointOf(bucket: Bucket): Promise<{ protocol: string; hostname: string; port?: number }> {
  const { endpoint } = bucket.signing.config;
  if (endpoint !== undefined) {
    const { protocol, hostname, port } = await endpoint();
    return { protocol, hostname, ...(port === undefined ? {} : { port }) };
  }
  return { protocol: "https:", hostname: `s3.${await bucket.signing.config.region()}.amazonaws.com` };
}

async function checksums({ bucket }: Try): Promise<Finding> {
  if (await bucket.attests())
    return ok("checksums", "SHA-256 is checked by the server: uploads complete at once");
  return warning(
    "checksums",
    "the server does not check a SHA-256",
    "nothing is wrong: a worker reads each upload once after `complete`, which answers 202; run enough workers",
  );
}

/** docyard's keys name their content: told for those who look for what their server can do. */
async function conditionalPut({ bucket, key, bytes, send }: Try): Promise<Finding> {
  const put = () =>
    send((s3, call) =>
      s3.putObject({ Bucket: bucket.name, Key: `${key}-once`, Body: bytes, IfNoneMatch: "*" }, call),
    );
  try {
    await put();
    await put();
  } catch (error) {
    return statusOf(error) === 412
      ? ok("conditional put", "If-None-Match is honoured")
      : ok("conditional put", `If-None-Match is refused (${told(error)}); docyard does without`);
  }
  return ok("conditional put", "If-None-Match is ignored; docyard does without");
}

/** Copies are needed, conditions on them are not: what was copied is verified, since servers ignore them in silence. */
async function conditionalCopy({ bucket, key, send }: Try): Promise<Finding> {
  const copy = (condition: { readonly CopySourceIfMatch?: string }) =>
    send((s3, call) =>
      s3.copyObject(
        { Bucket: bucket.name, Key: `${key}-copy`, CopySource: `${bucket.name}/${key}`, ...condition },
        call,
      ),
    );
  try {
    await copy({});
  } catch (error) {
    return failing("copy", told(error), "allow s3:GetObject and s3:PutObject on the whole prefix");
  }
  try {
    await copy({ CopySourceIfMatch: '"00000000000000000000000000000000"' });
    return ok("copy", "works; conditions are ignored, and docyard does without");
  } catch (error) {
    return ok("copy", `works; conditions are ${statusOf(error) === 412 ? "honoured" : "refused"}`);
  }
}

async function multipart({ bucket, key, send }: Try): Promise<Finding> {
  const at = { Bucket: bucket.name, Key: key };
  try {
    const { UploadId } = await send((s3, call) => s3.createMultipartUpload(at, call));
    await send((s3, call) => s3.listMultipartUploads({ Bucket: bucket.name, Prefix: key }, call));
    await send((s3, call) => s3.abortMultipartUpload({ ...at, UploadId }, call));
    return ok("multipart", "uploads in parts can be begun, listed and aborted");
  } catch (error) {
    return failing(
      "multipart",
      told(error),
      "allow s3:AbortMultipartUpload and s3:ListBucketMultipartUploads to these credentials",
    );
  }
}

/** The documented flow of a client, through the address that clients get. */
async function signedUrls({ bucket, options, key, bytes }: Try): Promise<Finding> {
  const presigner = createPresigner(bucket, options);
  const grant = { expiresAt: Date.now() + URL_TTL_MS, artifactId: "doctor", size: bytes.length };
  const digest = createHash("sha256").update(bytes).digest("hex");
  const signal = (): AbortSignal => AbortSignal.timeout(TIMEOUT_MS);
  try {
    const put = await presigner.signPut(`${key}-signed`, { ...grant, digest, sizeMax: bytes.length });
    const sent = await fetch(put.url, { method: "PUT", headers: put.headers, body: bytes, signal: signal() });
    await sent.body?.cancel();
    if (!sent.ok) return failing("signed URLs", `an upload is answered ${sent.status}`, SIGNED_FIX);
    const get = await presigner.signGet(`${key}-signed`, {
      ...grant,
      digest,
      filename: "doctor.bin",
      contentType: "application/octet-stream",
      principalId: "doctor",
    });
    const got = await fetch(get.url, { signal: signal() });
    const read = Buffer.from(await got.arrayBuffer());
    if (!got.ok) return failing("signed URLs", `a download is answered ${got.status}`, SIGNED_FIX);
    if (!bytes.equals(read)) return failing("signed URLs", "other bytes came back", SIGNED_FIX);
    return got.headers.get("content-disposition")?.startsWith("attachment") === true
      ? ok("signed URLs", "upload and download work, with the filename")
      : warning(
          "signed URLs",
          "downloads come without their filename",
          "use a server that knows response-* parameters",
        );
  } catch (error) {
    return failing("signed URLs", `the address for clients does not answer: ${told(error)}`, SIGNED_FIX);
  }
}

const SIGNED_FIX =
  "set publicEndpoint= in --blob to where clients reach the bucket; a proxy must keep the Host header and the query";

/** Whether a page in a browser may upload: its preflight needs a yes from the bucket. */
async function cors({ bucket, options, key, bytes }: Try): Promise<Finding> {
  const fix =
    "only pages in browsers need it: allow PUT and GET from their origin in the bucket's CORS rules";
  try {
    const { url } = await createPresigner(bucket, options).signPut(`${key}-signed`, {
      expiresAt: Date.now() + URL_TTL_MS,
      artifactId: "doctor",
      sizeMax: bytes.length,
    });
    const answer = await fetch(url, {
      method: "OPTIONS",
      headers: { origin: ORIGIN, "access-control-request-method": "PUT" },
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    await answer.body?.cancel();
    const allowed = answer.headers.get("access-control-allow-origin");
    return answer.ok && allowed !== null
      ? ok("CORS", `pages of ${allowed} may upload`)
      : warning("CORS", "pages in browsers may not upload", fix);
  } catch (error) {
    return warning("CORS", `a preflight fails: ${told(error)}`, fix);
  }
}

function statusOf(error: unknown): number | undefined {
  return (error as Partial<S3ServiceException>).$metadata?.httpStatusCode;
}

/** A name and a status: vendors' messages may quote what was signed. */
function told(error: unknown): string {
  if (!(error instanceof Error)) return "unknown reason";
  const { code } = error as NodeJS.ErrnoException;
  const cause = error.cause instanceof Error ? (error.cause as NodeJS.ErrnoException).code : undefined;
  const name =
    code ?? cause ?? (error.name === "Error" || error.name === "TypeError" ? error.message : error.name);
  const status = statusOf(error);
  return status === undefined ? name : `${name} (${status})`;
}

/** By the names that servers give. */
function fixFor(error: unknown, { endpoint }: S3BlobsOptions): string {
  const name = told(error);
  const has = (...words: string[]): boolean => words.some((word) => name.includes(word));
  if (has("CredentialsProviderError")) return "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
  if (has("InvalidAccessKeyId")) return "the server does not know AWS_ACCESS_KEY_ID: correct it";
  if (has("SignatureDoesNotMatch")) return "AWS_SECRET_ACCESS_KEY or region= is wrong: correct them";
  if (has("RequestTimeTooSkewed")) return "set this machine's and the server's clock by NTP";
  if (has("NoSuchBucket", "NotFound")) return "make the bucket, or correct its name in --blob";
  if (has("AccessDenied", "Forbidden", "(403)"))
    return "allow s3:GetObject, PutObject, DeleteObject, ListBucket to these credentials";
  if (has("PermanentRedirect", "AuthorizationHeaderMalformed"))
    return "the bucket is in another region: set region= in --blob";
  if (has("ENOTFOUND", "EAI_AGAIN"))
    return endpoint === undefined
      ? "correct region= in --blob"
      : "correct endpoint= in --blob: its host name is unknown";
  if (has("ECONNREFUSED", "ETIMEDOUT", "TimeoutError"))
    return "nothing answers there: start the server, or correct endpoint= in --blob";
  return "check endpoint=, region= and the credentials";
}
