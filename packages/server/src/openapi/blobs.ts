/**
 * The blob store's own signed URLs in the document, where it serves any. Clients use them as they were handed out; what
 * stands in them is nobody's business but the signer's.
 */

import type { Fault, HeaderName, Operation, Served } from "./operation.ts";
import { inPath, OUTAGES, WRITE_FAULTS } from "./operation.ts";

const KEY = inPath(
  "key",
  "The rest of the path, slashes and all, of a URL that this server handed out.",
  { type: "string", minLength: 1 },
  "incoming/upload_01KC8W5V7N3M2Q4R6T8Y0Z1A2C",
);

/** Optional here only because a URL without them is answered, too: with 403. */
function signed(name: string, description: string, schema: object, example: unknown): object {
  return { name, in: "query", required: true, description, schema, example };
}

const EXPIRES = signed(
  "expires",
  "Milliseconds since 1970 UTC.",
  { type: "string", pattern: "^\\d{1,16}$" },
  "1795340100000",
);
const ARTIFACT = signed("artifact", "Whose bytes.", { type: "string" }, "art_01KC8W5V7N3M2Q4R6T8Y0Z1A2B");
const SIGNATURE = signed(
  "signature",
  "HMAC-SHA256 over method, path and every parameter.",
  { type: "string", pattern: "^[0-9a-f]{64}$" },
  "4f1d0c6b9a2e7d3858b0c1a6e9f2d47350a8b6c1d2e3f40516273849a0b1c2d3",
);

const UPLOAD = [
  KEY,
  ARTIFACT,
  EXPIRES,
  signed("max", "Bytes that are taken at most.", { type: "string", pattern: "^\\d{1,16}$" }, "5368709120"),
  SIGNATURE,
];

const DOWNLOAD = [
  KEY,
  ARTIFACT,
  signed(
    "digest",
    "SHA-256 that the bytes must have.",
    { type: "string", pattern: "^[0-9a-f]{64}$" },
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
  ),
  EXPIRES,
  signed(
    "for",
    "Whose limit of downloads this counts for.",
    { type: "string" },
    "mc_01KC8W5V7N3M2Q4R6T8Y0Z1A2H",
  ),
  signed("name", "For Content-Disposition.", { type: "string" }, "report.pdf"),
  signed("size", "Bytes.", { type: "string", pattern: "^\\d{1,16}$" }, "4"),
  signed("type", "For Content-Type.", { type: "string" }, "application/pdf"),
  SIGNATURE,
];

function conditional(name: string, description: string, example: string): object {
  return { name, in: "header", required: false, description, schema: { type: "string" }, example };
}

const ETAG = '"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"';
const CONDITIONS = [
  conditional(
    "Range",
    "One range of bytes (RFC 9110); anything else is answered with the whole.",
    "bytes=0-1023",
  ),
  conditional("If-Range", "The range only if the content is still this.", ETAG),
  conditional("If-Match", "412 unless the content is this.", ETAG),
  conditional("If-None-Match", "304 if the content is this.", ETAG),
];

const FORGED: Fault = {
  code: "permission_denied",
  message: "The signature of this URL is not valid: use it whole, with PUT to upload and GET to download",
};
const GONE: Fault = { code: "not_found", message: "This artifact has been deleted" };

const BINARY = { schema: { type: "string", format: "binary" }, example: "the bytes" };
/** As what the artifact is. */
const BYTES = { "*/*": BINARY };
const DESCRIBED: readonly HeaderName[] = ["ETag", "ContentDisposition"];

export function blobOperations({ blobPath, settings }: Served): readonly Operation[] {
  if (blobPath === null) return [];
  const common = { path: `${blobPath}{key}`, tag: "Bytes", security: [], isExtension: true };
  const download = {
    ...common,
    parameters: [...DOWNLOAD, ...CONDITIONS],
    rateLimits: [
      {
        ...settings.limits.download,
        what: "downloads",
        per: "machine client or API key that the URL was signed for",
      },
    ],
  };
  const downloadFaults: readonly Fault[] = [
    FORGED,
    { code: "permission_denied", message: "This download URL has expired: list again for a fresh one" },
    GONE,
    { code: "data_loss", message: "The stored bytes are damaged and were not handed out" },
    ...OUTAGES,
  ];
  return [
    {
      ...common,
      method: "put",
      operationId: "uploadBytes",
      summary: "Send the bytes",
      description:
        "To an `uploadUrl` or `presignedUploadUrl` as it was handed out: the signature is the only credential. May be " +
        "repeated until complete; what breaks off leaves nothing, and a part (`Content-Range`) is refused. Any content " +
        "type, none is kept.",
      parameters: UPLOAD,
      body: {
        description: `The bytes, at most ${settings.sizeMax}.`,
        content: { "application/octet-stream": BINARY },
      },
      answers: {
        200: { description: "Stored, not yet part of the dock.", headers: ["ETag"] },
      },
      faults: [
        { code: "invalid_argument", message: "The body ended after 3 of 4 bytes" },
        FORGED,
        {
          code: "permission_denied",
          message: "This upload URL has expired: create the artifact again for a fresh one",
        },
        GONE,
        { code: "too_large", message: `File size exceeds the limit of ${settings.sizeMax} bytes` },
        { code: "failed_precondition", message: "This upload is already complete or has ended" },
        ...OUTAGES,
        ...WRITE_FAULTS,
      ],
    },
    {
      ...download,
      method: "get",
      operationId: "downloadBytes",
      summary: "Get the bytes",
      description:
        "From a `downloadUrl` as it was handed out: the signature is the only credential. Verified before they are sent; " +
        "a transfer that cannot be finished is cut, never ended as if it were whole.",
      answers: {
        200: { description: "All of them.", headers: DESCRIBED, content: BYTES },
        206: { description: "The range.", headers: [...DESCRIBED, "ContentRange"], content: BYTES },
        304: { description: "The client has them.", headers: ["ETag"] },
        412: { description: "The content is another.", headers: ["ETag"] },
        416: { description: "There are no such bytes.", headers: ["ETag", "ContentRange"] },
      },
      faults: downloadFaults,
    },
    {
      ...download,
      method: "head",
      operationId: "describeBytes",
      summary: "Ask what a download would be",
      description: "The headers of the download; counts for no limit.",
      answers: {
        200: { description: "As GET would answer, without the bytes.", headers: DESCRIBED },
        304: { description: "The client has them.", headers: ["ETag"] },
        412: { description: "The content is another.", headers: ["ETag"] },
      },
      faults: downloadFaults,
      rateLimits: [],
    },
    {
      ...common,
      method: "options",
      operationId: "preflightBytes",
      summary: "Ask whether a web page may",
      description: "It may (CORS): whoever has the URL has all that is needed.",
      parameters: [KEY],
      answers: { 204: { description: "Any origin, and the methods GET, HEAD and PUT." } },
      faults: OUTAGES,
    },
  ];
}
