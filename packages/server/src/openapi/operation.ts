/**
 * What every operation of the document has in common: headers, and errors in the envelope of the face that answers,
 * with the status that the face's own table gives them. Which operations there are is left to the files beside this one.
 */

import type { RouteConfig } from "@asteasolutions/zod-to-openapi";
import type { ErrorCode, Settings } from "@docyard/core";
import type { z } from "zod";
import type { ErrorFace } from "../fault.ts";

/** What of the running server the document depends on. */
export interface Served {
  readonly version: string;
  /** The path of the public URL: empty, or `/prefix`. */
  readonly prefix: string;
  readonly settings: Settings;
  readonly bodyBytesMax: number;
  /** Prefix of the blob store's own URLs, where it serves any: `/v1/blobs/`. */
  readonly blobPath: string | null;
  /** Whether `/docs` has its script. */
  readonly hasReference: boolean;
}

/** An error that an operation can answer: a code of the domain, or a status that only HTTP knows. */
export interface Fault {
  readonly code: ErrorCode | number;
  /** The message of the example; several are the issues of one bad input. */
  readonly message: string | readonly string[];
}

export interface Answer {
  readonly description: string;
  readonly headers?: readonly HeaderName[];
  /** Media type, schema and example; absent for an answer without a body. */
  readonly content?: Content;
}

export type Content = Readonly<
  Record<string, { readonly schema: z.ZodType | object; readonly example?: unknown }>
>;

export interface Operation {
  readonly method: "get" | "post" | "put" | "delete" | "head" | "options";
  readonly path: string;
  readonly operationId: string;
  readonly summary: string;
  readonly description: string;
  readonly tag: string;
  /** Any one of these; none at all where it is empty. */
  readonly security: readonly Readonly<Record<string, readonly string[]>>[];
  readonly parameters?: readonly object[];
  readonly body?: { readonly description: string; readonly content: Content };
  readonly answers: Readonly<Record<number, Answer>>;
  readonly faults: readonly Fault[];
  /** Marks what the vendor's contract does not have. */
  readonly isExtension?: boolean;
  readonly rateLimits?: readonly RateLimited[];
}

export interface RateLimited {
  readonly max: number;
  readonly windowMs: number;
  /** What is counted, as the refusal calls it. */
  readonly what: string;
  readonly per: string;
}

/** Headers by the names under which the document has them once. */
export const HEADERS = {
  RequestId: {
    name: "X-Request-Id",
    description:
      "Names this request in the server's log; the client's own X-Request-Id where it sent a good one.",
    schema: { type: "string", minLength: 1, maxLength: 128 },
    example: "0199c2a1-6f0e-7d1c-9a51-3d5f0c1b2a77",
  },
  RetryAfter: {
    name: "Retry-After",
    description: "Whole seconds after which the request will not be refused for this reason again.",
    schema: { type: "integer", minimum: 1 },
    example: 17,
  },
  Challenge: {
    name: "WWW-Authenticate",
    description: "How to authenticate (RFC 6750, RFC 7617).",
    schema: { type: "string" },
    example: 'Bearer realm="docyard", error="invalid_token"',
  },
  ETag: {
    name: "ETag",
    description: "The SHA-256 of the whole content, as a strong entity tag.",
    schema: { type: "string", pattern: '^"sha256:[0-9a-f]{64}"$' },
    example: '"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"',
  },
  ContentRange: {
    name: "Content-Range",
    description: "Which bytes these are, of how many.",
    schema: { type: "string", pattern: "^bytes (\\d+-\\d+|\\*)/\\d+$" },
    example: "bytes 0-1023/40960",
  },
  ContentDisposition: {
    name: "Content-Disposition",
    description: "Always an attachment, with the artifact's filename (RFC 6266, RFC 8187).",
    schema: { type: "string" },
    example: "attachment; filename=\"report.pdf\"; filename*=UTF-8''report.pdf",
  },
} as const;

export type HeaderName = keyof typeof HEADERS;

/** How a face words its errors here: its table and envelope, and the schema of that envelope. */
export interface FaultWords {
  readonly face: ErrorFace;
  readonly schema: z.ZodType;
}

export function routeOf(operation: Operation, words: FaultWords): RouteConfig {
  const { method, path, operationId, summary, description, tag, security, parameters, body } = operation;
  const limits = operation.rateLimits?.filter(({ max }) => max > 0) ?? [];
  return {
    method,
    path,
    operationId,
    summary,
    description: [description, ...limits.map(limitSentence)].join("\n\n"),
    tags: [tag],
    security: security as never[],
    ...(parameters === undefined ? {} : { parameters: [...parameters] as never[] }),
    ...(body === undefined
      ? {}
      : {
          request: { body: { description: body.description, required: true, content: { ...body.content } } },
        }),
    responses: {
      ...Object.fromEntries(
        Object.entries(operation.answers).map(([status, answer]) => [status, answerOf(answer)]),
      ),
      ...faultsOf([...operation.faults, ...limits.map(limitFault)], words),
    },
    ...(operation.isExtension === true ? { "x-docyard-extension": true } : {}),
    ...(limits.length === 0
      ? {}
      : {
          "x-docyard-rate-limits": limits.map(({ max, windowMs, per }) => ({
            max,
            windowSeconds: windowMs / 1_000,
            per,
          })),
        }),
  };
}

const WINDOWS: Readonly<Record<number, string>> = {
  60_000: "minute",
  3_600_000: "hour",
  86_400_000: "day",
};

function rateOf({ max, windowMs, what }: RateLimited): string {
  return `${max} ${what} per ${WINDOWS[windowMs] ?? `${windowMs / 1_000} seconds`}`;
}

function limitSentence(limit: RateLimited): string {
  return `At most ${rateOf(limit)} for one ${limit.per}; beyond that 429 with \`Retry-After\`.`;
}

function limitFault(limit: RateLimited): Fault {
  return { code: "resource_exhausted", message: `Rate limit exceeded: ${rateOf(limit)}` };
}

function answerOf({ description, headers = [], content }: Answer): RouteConfig["responses"][string] {
  return {
    description,
    headers: headersOf(["RequestId", ...headers]),
    ...(content === undefined ? {} : { content: { ...content } }),
  };
}

/** One answer per status, one example per fault. */
function faultsOf(faults: readonly Fault[], { face, schema }: FaultWords): RouteConfig["responses"] {
  /** The statuses that tell how to authenticate, where there is a way to. */
  const challenged = faults.some(({ code }) => code === "unauthenticated") ? [401, 403] : [];
  const byStatus = Map.groupBy(faults, ({ code }) => (typeof code === "number" ? code : face.statusOf[code]));
  return Object.fromEntries(
    [...byStatus].map(([status, group]) => {
      const examples = group.map(({ code, message }, at) => {
        const [sentence, issues] = typeof message === "string" ? [message] : [message.join("; "), message];
        return [
          `${typeof code === "number" ? `http_${code}` : code}${at === 0 ? "" : `_${at + 1}`}`,
          { summary: sentence, value: face.envelope(status, sentence, issues) },
        ];
      });
      const answer = {
        description: [...new Set(group.map(({ code }) => WHY[code] ?? "Refused."))].join(" "),
        headers: headersOf([
          "RequestId",
          ...(challenged.includes(status) ? (["Challenge"] as const) : []),
          ...(status === 429 ? (["RetryAfter"] as const) : []),
        ]),
        content: { "application/json": { schema, examples: Object.fromEntries(examples) as object } },
      };
      return [String(status), answer];
    }),
  ) as RouteConfig["responses"];
}

/** Their values, and that they are there. */
function headersOf(names: readonly HeaderName[]): Record<string, { readonly $ref: string }> {
  return Object.fromEntries(
    names.map((name) => [HEADERS[name].name, { $ref: `#/components/headers/${name}` }]),
  );
}

const WHY: Readonly<Record<ErrorCode | number, string>> = {
  invalid_argument: "The request is malformed; the message says what to fix, one sentence per fault.",
  unauthenticated: "No credential, or one that is wrong, expired or deactivated.",
  permission_denied: "The credential is good, and not good for this.",
  not_found: "There is no such thing, or the caller may not know of it.",
  already_exists: "Taken.",
  failed_precondition: "Not in this state; nothing was changed.",
  quota_exceeded: "The dock holds all that its quota allows.",
  too_large: "Over the size limit, declared or real.",
  policy_rejected: "Refused by policy.",
  integrity_mismatch:
    "The uploaded bytes are not what was declared: upload the right ones and complete again.",
  source_failed: "The source cannot be had.",
  resource_exhausted: "A rate limit is reached: come back after `Retry-After`.",
  data_loss: "The stored bytes no longer match their digest and are not handed out.",
  internal: "Something that nobody foresaw; the log has it under the `X-Request-Id`.",
  upstream_failed: "The database or the storage is out of reach: try again.",
  read_only: "The server is read-only for now; reading goes on.",
  no_space: "The storage is full or nearly so; reading goes on.",
  408: "The body did not arrive in time; the connection is closed.",
  413: "The body is larger than this API takes.",
};

/** What can befall any operation that asks the database. */
export const OUTAGES: readonly Fault[] = [
  { code: "internal", message: "Internal server error" },
  { code: "upstream_failed", message: "The database is out of reach: try again" },
];

/** What can befall any operation that reads a body. */
export function bodyFaults({ bodyBytesMax }: Served): readonly Fault[] {
  return [
    { code: "invalid_argument", message: "Request body is not valid JSON (at position 17)" },
    { code: 408, message: "Request body did not arrive within 30 seconds" },
    { code: 413, message: `Request body must be at most ${bodyBytesMax} bytes` },
  ];
}

/** What can befall any operation that changes something. */
export const WRITE_FAULTS: readonly Fault[] = [
  { code: "read_only", message: "The server is read-only for now: reading goes on, writing does not" },
  { code: "no_space", message: "The storage is nearly full: reading goes on, uploads do not" },
];

/** Of JSON, as every answer of the API is. */
export function json(schema: z.ZodType | object, example: unknown): Content {
  return { "application/json": { schema, example } };
}

export function query(name: string, description: string, schema: object, example: unknown): object {
  return { name, in: "query", required: false, description, schema, example };
}

export function inPath(name: string, description: string, schema: object, example: string): object {
  return { name, in: "path", required: true, description, schema, example };
}
