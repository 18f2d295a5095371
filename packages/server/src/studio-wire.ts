/**
 * The Studio API's words: request shapes, query values, JSON answers, error envelope (contract 1H to 1K).
 * Pure translation; what anything means is core's.
 */

import type {
  ArtifactSummary,
  ErrorCode,
  PageNumbers,
  SignedUrl,
  StudioCreateInput,
  StudioDock,
  StudioListed,
  StudioListInput,
} from "@docyard/core";
import { clampLimit, MEDIA_TYPES, PAGE_LIMIT_DEFAULT, VISIBLE_STATUSES } from "@docyard/core";
import { z } from "zod";
import { invalid, parseShape, readQuery } from "./input.ts";
import { printTime } from "./time.ts";

/** The one table from codes to statuses. A source that policy refuses is a bad request here (ruling 10). */
export const STUDIO_STATUS: Readonly<Record<ErrorCode, number>> = {
  invalid_argument: 400,
  policy_rejected: 400,
  unauthenticated: 401,
  permission_denied: 403,
  not_found: 404,
  already_exists: 409,
  failed_precondition: 409,
  quota_exceeded: 409,
  too_large: 413,
  integrity_mismatch: 422,
  source_failed: 422,
  resource_exhausted: 429,
  data_loss: 500,
  internal: 500,
  upstream_failed: 502,
  read_only: 503,
  no_space: 507,
};

/** Both of the vendor's generations at once: one reads `error`, the other `message` and `status` (contract 46). */
export interface StudioError {
  readonly error: string;
  readonly message: string;
  readonly status: number;
}

/** Faults told in one answer; a list of a thousand bad fragments does not get a thousand sentences. */
const ISSUES_SHOWN_MAX = 10;

export function studioError(status: number, message: string, issues?: readonly string[]): StudioError {
  const text = issues === undefined ? message : sentence(issues);
  return { error: text, message: text, status };
}

function sentence(issues: readonly string[]): string {
  const shown = issues.slice(0, ISSUES_SHOWN_MAX).join("; ");
  return issues.length > ISSUES_SHOWN_MAX ? `${shown}; and ${issues.length - ISSUES_SHOWN_MAX} more` : shown;
}

// ---- requests

/** Longer arrays are refused before each item is looked at; how many fragments an artifact may have is core's. */
const FRAGMENTS_READ_MAX = 10_000;

/** Null is absent (contract 45). */
const location = z.string("must be a string").nullish();

const fragmentShape = z.object(
  { s3Path: location, url: location, startTime: z.number("must be a number of seconds") },
  "must be an object",
);

/** Unknown fields are dropped. */
const createShape = z.object({
  name: z.string("must be a string"),
  type: z.enum(MEDIA_TYPES, `must be one of ${MEDIA_TYPES.join(", ")}`),
  s3Path: location,
  url: location,
  fragments: z
    .array(z.unknown(), "must be an array")
    .max(FRAGMENTS_READ_MAX, "has far too many items")
    .pipe(z.array(fragmentShape))
    .nullish(),
});

/** The shapes that requests are parsed with, for the document that describes them. */
export const STUDIO_REQUESTS: Readonly<Record<"create" | "fragment", z.ZodObject>> = {
  create: createShape,
  fragment: fragmentShape,
};

/** @throws DocyardError `invalid_argument` with one issue per fault, each naming its field. */
export function readCreate(body: unknown): StudioCreateInput {
  const {
    name,
    type,
    s3Path = null,
    url = null,
    fragments,
  } = parseShape(createShape, body, ({ path, message }) => `${fieldName(path)} ${message}`);
  return {
    name,
    type,
    s3Path,
    url,
    fragments:
      fragments?.map(({ s3Path = null, url = null, startTime }) => ({ s3Path, url, startTime })) ?? null,
  };
}

/** `fragments[3].startTime` */
function fieldName(path: readonly PropertyKey[]): string {
  return path
    .map((part, at) =>
      typeof part === "number" ? `[${part}]` : at === 0 ? String(part) : `.${String(part)}`,
    )
    .join("");
}

/** @throws DocyardError `invalid_argument`; whether the name is a good one is core's to say. */
export function readPresignQuery(query: URLSearchParams): string {
  const names = query.getAll("fileName");
  if (names.length === 1) return names[0]!;
  throw invalid([names.length === 0 ? "fileName must be given" : "fileName must be given once"]);
}

/** @throws DocyardError `invalid_argument` with one issue per fault. */
export function readListQuery(query: URLSearchParams): StudioListInput {
  const input: { -readonly [K in keyof StudioListInput]: StudioListInput[K] } = {};
  let [limit, page] = [PAGE_LIMIT_DEFAULT, 1];
  readQuery(query, {
    status: (value) => void (input.status = oneOf("status", value, VISIBLE_STATUSES)),
    type: (value) => void (input.type = oneOf("type", value, MEDIA_TYPES)),
    limit: (value) => void (limit = clampLimit(positiveInteger("limit", value))),
    page: (value) => void (page = positiveInteger("page", value)),
  });
  const offset = (page - 1) * limit;
  if (!Number.isSafeInteger(offset)) throw invalid(["page is beyond any list"]);
  return { ...input, limit, offset };
}

function oneOf<W extends string>(name: string, value: string, words: readonly W[]): W {
  const found = words.find((word) => word === value);
  if (found === undefined) throw invalid([`${name} must be one of ${words.join(", ")}`]);
  return found;
}

function positiveInteger(name: string, text: string): number {
  const value = /^\d+$/.test(text) ? Number(text) : 0;
  if (value < 1) throw invalid([`${name} must be an integer of at least 1`]);
  return value;
}

// ---- answers

/** Whose artifacts they are, as an API key opened them. */
export type Viewer = Pick<StudioDock, "organization"> & {
  /** What stands for all storage in `s3Bucket` and in the `s3Path` of a presigned upload. */
  readonly bucketName: string;
};

/** Exactly the vendor's keys (contract 1H), from create and from get alike (contract 55). */
export function artifactJson(
  artifact: ArtifactSummary,
  creator: StudioListed["creator"],
  { organization, bucketName }: Viewer,
): object {
  const { durationMs } = artifact;
  return {
    id: artifact.id,
    name: artifact.filename,
    type: artifact.mediaType,
    status: artifact.status,
    uploadMethod: artifact.source.kind === "fragments" ? "fragments" : "direct_url",
    size: artifact.size,
    duration: durationMs === null ? null : Math.round(durationMs) / 1_000,
    errorMessage: artifact.failure?.message ?? null,
    s3Path: artifact.storageKey,
    s3Bucket: bucketName,
    createdAt: printTime(artifact.createdAt),
    updatedAt: printTime(artifact.updatedAt),
    company: { id: organization.id, name: organization.name },
    // Absent where the key is gone: the vendor allows it.
    ...(creator === null ? {} : { createdBy: { id: creator.id, name: creator.name } }),
  };
}

/** With a URL for the bytes once there are any: an extension, since elsewhere `s3Path` needs the vendor's own bucket. */
export function listedJson({ artifact, download, creator }: StudioListed, viewer: Viewer): object {
  return {
    ...artifactJson(artifact, creator, viewer),
    ...(download === null ? {} : { downloadUrl: download.url, expiresAt: printTime(download.expiresAt) }),
  };
}

/** Where to send a local file. `uploadHeaders` only where the signature needs any (it is not the vendor's). */
export function presignedJson(s3Path: string, upload: SignedUrl): object {
  return {
    s3Path,
    presignedUploadUrl: upload.url,
    expiresAt: printTime(upload.expiresAt),
    ...(Object.keys(upload.headers).length === 0 ? {} : { uploadHeaders: upload.headers }),
  };
}

export function pageJson({ total, page, pageSize, hasMore }: PageNumbers): object {
  return { total, page, pageSize, hasMore };
}
