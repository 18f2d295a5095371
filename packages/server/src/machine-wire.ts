/**
 * The machine API's words: request shapes, query values, JSON answers, error envelope (contract 1A to 1E).
 * Pure translation; what anything means is core's.
 */

import type {
  Artifact,
  ArtifactSummary,
  CreateInput,
  ErrorCode,
  Listed,
  ListInput,
  VisibleStatus,
} from "@docyard/core";
import { clampLimit, DocyardError, isJsonObject, parseFilter, VISIBLE_STATUSES } from "@docyard/core";
import type { JsonObject, PageNumbers, SignedUrl } from "@docyard/core";
import { z } from "zod";
import { structureFault } from "./body.ts";
import { parseShape, readQuery } from "./input.ts";
import { parseTime, printTime } from "./time.ts";

/** The one table from codes to statuses. 409 for `too_large` is the vendor's (contract 17). */
export const MACHINE_STATUS: Readonly<Record<ErrorCode, number>> = {
  invalid_argument: 400,
  unauthenticated: 401,
  permission_denied: 403,
  not_found: 404,
  already_exists: 409,
  failed_precondition: 409,
  quota_exceeded: 409,
  too_large: 409,
  policy_rejected: 422,
  integrity_mismatch: 422,
  source_failed: 422,
  resource_exhausted: 429,
  data_loss: 500,
  internal: 500,
  upstream_failed: 502,
  read_only: 503,
  no_space: 507,
};

/** Reason phrases of every status this server answers errors with (RFC 9110; 413 and 422 as Node and Nest word them). */
const REASONS: Readonly<Record<number, string>> = {
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  408: "Request Timeout",
  409: "Conflict",
  413: "Payload Too Large",
  417: "Expectation Failed",
  422: "Unprocessable Entity",
  429: "Too Many Requests",
  431: "Request Header Fields Too Large",
  499: "Client Closed Request",
  500: "Internal Server Error",
  502: "Bad Gateway",
  503: "Service Unavailable",
  507: "Insufficient Storage",
};

export interface MachineError {
  readonly statusCode: number;
  /** All faults of an invalid input, else one sentence. */
  readonly message: string | readonly string[];
  readonly error: string;
}

/** Exactly the vendor's three keys, everywhere (contract 1A). */
export function machineError(status: number, message: string, issues?: readonly string[]): MachineError {
  return { statusCode: status, message: issues ?? message, error: REASONS[status] ?? "Error" };
}

// ---- requests

function optionalText(name: string): z.ZodType<string | null | undefined> {
  return z.string(`${name} must be a string`).nullish();
}

/** Unknown fields are dropped, null is absent (class-validator's `IsOptional`, whose style the vendor's messages have). */
const createShape = z.object({
  filename: z.string("filename must be a string"),
  contentType: optionalText("contentType"),
  size: z.number("size must be an integer number of bytes").nullish(),
  metadata: z.custom<JsonObject>(isJsonObject, "metadata must be an object").nullish(),
  hash: optionalText("hash"),
});

const completeShape = z.object({
  uploadId: z
    .string("uploadId must be a string")
    .regex(/^upload_[A-Za-z0-9]{1,64}$/, "uploadId must be the uploadId of a create response"),
  s3Key: optionalText("s3Key"),
});

const tokenShape = z.object({
  grant_type: z.string("grant_type must be a string"),
  client_id: optionalText("client_id"),
  client_secret: optionalText("client_secret"),
  scope: optionalText("scope"),
});

/** The shapes that requests are parsed with, for the document that describes them. */
export const MACHINE_REQUESTS: Readonly<Record<"create" | "complete" | "token", z.ZodObject>> = {
  create: createShape,
  complete: completeShape,
  token: tokenShape,
};

export interface TokenRequest {
  readonly grant_type: string;
  readonly client_id?: string | null | undefined;
  readonly client_secret?: string | null | undefined;
  readonly scope?: string | null | undefined;
}

/** @throws DocyardError `invalid_argument` with one issue per fault. */
export async function readCreate(body: unknown): Promise<CreateInput> {
  const { filename, contentType, size, metadata, hash } = parseShape(createShape, body);
  const type = contentType ?? (await detectContentType(filename));
  return {
    filename,
    ...(type == null ? {} : { contentType: type }),
    ...(size == null ? {} : { size }),
    ...(metadata == null ? {} : { metadata }),
    ...(hash == null ? {} : { hash }),
  };
}

/** `s3Key` is the vendor's word for `storageKey` (contract 12). */
export function readComplete(body: unknown): { readonly uploadId: string; readonly storageKey?: string } {
  const { uploadId, s3Key } = parseShape(completeShape, body);
  return { uploadId, ...(s3Key == null ? {} : { storageKey: s3Key }) };
}

export function readTokenRequest(body: unknown): TokenRequest {
  return parseShape(tokenShape, body);
}

/** Read by the first who needs it: a tenth of the start otherwise. */
let types: { readonly lookup: (extension: string) => string | false } | undefined;

/** By the extension only, and only if there is one: `lookup` takes a bare `pdf` for an extension. */
async function detectContentType(filename: string): Promise<string | undefined> {
  const dot = filename.lastIndexOf(".");
  if (dot < 0) return undefined;
  // Not a promise: one that failed, for want of descriptors, would fail for ever.
  const { lookup } = (types ??= await import("mime-types"));
  return lookup(filename.slice(dot + 1)) || undefined;
}

// ---- the list's query

/** A filename has at most 255 bytes: nothing longer can be part of one. */
export const SEARCH_LENGTH_MAX = 255;

/** @throws DocyardError `invalid_argument` with one issue per fault. */
export function readListQuery(query: URLSearchParams): ListInput {
  const input: { -readonly [K in keyof ListInput]: ListInput[K] } = {};
  readQuery(query, {
    limit: (value) => void (input.limit = clampLimit(integer("limit", value))),
    // What is beyond exactness is beyond any list, too: an empty page, as behind every other end.
    offset: (value) => void (input.offset = Math.min(integer("offset", value), Number.MAX_SAFE_INTEGER)),
    cursor: (value) => void (input.cursor = value),
    search: (value) => void (input.search = searchText(value)),
    metadata: (value) => void (input.filter = filter(value)),
    createdAfter: (value) => void (input.createdAfter = time("createdAfter", value)),
    createdBefore: (value) => void (input.createdBefore = time("createdBefore", value)),
    status: (value) => void (input.statuses = statuses(value)),
  });
  return input;
}

function integer(name: string, text: string): number {
  if (!/^-?\d+$/.test(text)) throw new DocyardError("invalid_argument", `${name} must be an integer`);
  return Number(text);
}

function searchText(text: string): string {
  if (text.length > SEARCH_LENGTH_MAX) {
    throw new DocyardError("invalid_argument", `search must be at most ${SEARCH_LENGTH_MAX} characters`);
  }
  // No filename has one, and not every database takes one.
  if (text.includes("\0")) throw new DocyardError("invalid_argument", "search must not contain NUL");
  return text;
}

function filter(text: string): JsonObject {
  // An unset shell variable makes this; `{}` is there for those who mean "no filter".
  if (text.trim() === "") throw new DocyardError("invalid_argument", "metadata must not be empty");
  const value = parseFilter(text);
  const fault = structureFault(text.trimStart().startsWith("{") ? text : `{${text}}`);
  if (fault !== null) throw new DocyardError("invalid_argument", `metadata ${fault}`);
  return value;
}

function time(name: string, text: string): number {
  const value = parseTime(text);
  if (value === null) {
    throw new DocyardError(
      "invalid_argument",
      `${name} must be an ISO 8601 date, such as 2024-03-01T00:00:00Z`,
    );
  }
  return value;
}

function statuses(text: string): VisibleStatus[] {
  const names = [...new Set(text.split(","))];
  const found = VISIBLE_STATUSES.filter((status) => names.includes(status));
  if (found.length !== names.length) {
    throw new DocyardError(
      "invalid_argument",
      `status must be one or more of ${VISIBLE_STATUSES.join(", ")}, separated by commas`,
    );
  }
  return found;
}

// ---- answers

function hashOf({ digest }: ArtifactSummary): string | null {
  return digest === null ? null : `sha256:${digest}`;
}

/** The artifact as create and complete show it. */
export function artifactJson(artifact: Artifact, isDuplicate: boolean): object {
  return {
    id: artifact.id,
    dockId: artifact.dockId,
    filename: artifact.filename,
    contentType: artifact.contentType,
    size: artifact.size,
    hash: hashOf(artifact),
    storageKey: artifact.storageKey,
    metadata: artifact.metadata,
    isDuplicate,
    createdAt: printTime(artifact.createdAt),
    updatedAt: printTime(artifact.updatedAt),
  };
}

/** Where to send the bytes. `uploadHeaders` only where the signature needs any (it is not the vendor's). */
export function uploadJson(artifact: Artifact, upload: SignedUrl): object {
  return {
    uploadUrl: upload.url,
    uploadId: artifact.uploadId,
    ...(Object.keys(upload.headers).length === 0 ? {} : { uploadHeaders: upload.headers }),
  };
}

/** An item of the list: exactly the vendor's keys (contract 1D). */
export function listedJson({ artifact, download }: Listed): object {
  return {
    id: artifact.id,
    dockId: artifact.dockId,
    filename: artifact.filename,
    contentType: artifact.contentType,
    size: artifact.size,
    hash: hashOf(artifact),
    metadata: artifact.metadata,
    createdAt: printTime(artifact.createdAt),
    updatedAt: printTime(artifact.updatedAt),
    downloadUrl: download?.url ?? null,
    expiresAt: download === null ? null : printTime(download.expiresAt),
  };
}

/** With its status, which only our own extensions show: `status=` in the list, and the single artifact. */
export function statedJson(listed: Listed): object {
  const { status, failure } = listed.artifact;
  return { ...listedJson(listed), status, errorMessage: failure?.message ?? null };
}

export function pageJson(page: PageNumbers): object {
  return {
    total: page.total,
    page: page.page,
    pageSize: page.pageSize,
    hasMore: page.hasMore,
    nextCursor: page.nextCursor,
  };
}
