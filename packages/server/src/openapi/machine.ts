/**
 * The machine face in the document: token endpoint, artifact routes (contract 1A to 1E), the extensions on a single
 * artifact. Shapes of requests come from `machine-wire.ts`; what answers look like is said here once.
 */

import {
  CONTENT_TYPE,
  FILENAME_BYTES_MAX,
  METADATA_BYTES_MAX,
  METADATA_DEPTH_MAX,
  METADATA_VALUES_MAX,
  PAGE_LIMIT_DEFAULT,
  PAGE_LIMIT_MAX,
  SCOPES,
  VISIBLE_STATUSES,
} from "@docyard/core";
import { z } from "zod";
import { machineErrors } from "../machine.ts";
import { MACHINE_REQUESTS, SEARCH_LENGTH_MAX } from "../machine-wire.ts";
import type { Fault, FaultWords, Operation, Served } from "./operation.ts";
import { bodyFaults, inPath, json, OUTAGES, query, WRITE_FAULTS } from "./operation.ts";
import { count, described, request, response, text, textOrNull, timestamp, url } from "./shape.ts";

export const MACHINE_FAULTS: FaultWords = {
  face: machineErrors,
  schema: response(
    "MachineError",
    {
      statusCode: described(z.int(), { description: "The HTTP status", minimum: 400, maximum: 599 }),
      message: described(z.union([z.string(), z.array(z.string()).min(1)]), {
        description: "One sentence, or one per fault of an invalid input",
      }),
      error: text("The reason phrase of the status"),
    },
    "The envelope of every error outside `/api/`.",
  ),
};

/** Everything but controls, separators, and what reorders text; what a schema cannot say, the description does. */
const FILENAME_PATTERN =
  "^(?!\\.{1,2}$)[^/\\\\\\u0000-\\u001f\\u007f-\\u009f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]+$";

export const FILENAME_BOUNDS: Readonly<Record<string, unknown>> = {
  minLength: 1,
  maxLength: FILENAME_BYTES_MAX,
  pattern: FILENAME_PATTERN,
  "x-docyard-max-bytes": FILENAME_BYTES_MAX,
};

const HASH = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
const ID = "art_01KC8W5V7N3M2Q4R6T8Y0Z1A2B";
const UPLOAD_ID = "upload_01KC8W5V7N3M2Q4R6T8Y0Z1A2C";
const KEY = "docks/dock_default/artifacts/2026-11-22/09/01kc8w5v7n3m2q4r6t8y0z1a2b";
const SIGNATURE = "signature=4f1d0c6b9a2e7d3858b0c1a6e9f2d47350a8b6c1d2e3f40516273849a0b1c2d3";
const UPLOAD_URL = `https://files.example.com/v1/blobs/incoming/${UPLOAD_ID}?artifact=${ID}&expires=1795340100000&max=5368709120&${SIGNATURE}`;
const DOWNLOAD_URL = `https://files.example.com/v1/blobs/${KEY}-9f86d081?artifact=${ID}&expires=1795340100000&${SIGNATURE}`;

const ARTIFACT = {
  id: ID,
  dockId: "dock_default",
  filename: "report.pdf",
  contentType: "application/pdf",
  size: 4,
  hash: HASH,
  storageKey: KEY,
  metadata: { patientId: "12345", tags: ["mri"] },
  isDuplicate: false,
  createdAt: "2026-11-22T09:15:00.000Z",
  updatedAt: "2026-11-22T09:15:00.000Z",
};
const {
  storageKey: _key,
  isDuplicate: _duplicate,
  ...LISTED
} = {
  ...ARTIFACT,
  downloadUrl: DOWNLOAD_URL,
  expiresAt: "2026-11-22T10:15:00.000Z",
};
const META = { total: 1, page: 1, pageSize: 20, hasMore: false, nextCursor: null };

const commonFields = {
  id: text("Names the artifact for ever; opaque", { pattern: "^art_[0-9A-Za-z_-]{1,60}$" }),
  dockId: text("The dock it is in"),
  filename: text("As the client gave it, to the letter"),
  contentType: text("Declared, or found by the filename's extension"),
  size: described(z.int().nullable(), {
    description: "Bytes: declared or null until completed, measured from then on",
    minimum: 0,
  }),
  hash: textOrNull("SHA-256 of the content: declared or null until completed, verified from then on", {
    pattern: "^sha256:[0-9a-f]{64}$",
  }),
  metadata: described(z.record(z.string(), z.unknown()), { description: "As the client gave it" }),
  createdAt: timestamp("When it was created"),
  updatedAt: timestamp("When it last changed"),
};
const artifactFields = {
  ...commonFields,
  storageKey: text("Where the storage has it; gives no right to read it"),
  isDuplicate: described(z.boolean(), {
    description: "True when this dock already had the content, and this is the artifact that holds it",
  }),
};
const uploadIdField = text("Names the upload; for `complete`", { pattern: "^upload_[A-Za-z0-9]{1,64}$" });
const listedFields = {
  ...commonFields,
  downloadUrl: described(z.string().nullable(), {
    description:
      "Signed: hands out the bytes to whoever has it, until `expiresAt`; null while there are none",
    format: "uri",
  }),
  expiresAt: described(z.string().nullable(), {
    description: "When `downloadUrl` stops working; ask again for a new one",
    format: "date-time",
  }),
};
const statedFields = {
  ...listedFields,
  status: described(z.enum(VISIBLE_STATUSES), { description: "How far it is" }),
  errorMessage: textOrNull("Why it failed, if it did"),
};

const artifact = response("MachineArtifact", artifactFields, "An artifact.");
const created = response(
  "MachineCreated",
  {
    ...artifactFields,
    uploadUrl: url("Signed: takes the bytes by PUT from whoever has it, until it expires"),
    uploadId: uploadIdField,
    uploadHeaders: described(z.record(z.string(), z.string()).optional(), {
      description: "Headers that the PUT must carry, where the storage asks for any",
    }),
  },
  "A new artifact, and where to send its bytes.",
);
const completed = response(
  "MachineCompleted",
  { ...artifactFields, uploadId: uploadIdField },
  "The artifact that holds the bytes.",
);
const listed = response("MachineListedArtifact", listedFields, "A completed artifact, as lists show it.");
const stated = response("MachineStatedArtifact", statedFields, "An artifact with its status.");
const list = response(
  "MachineList",
  {
    data: described(z.array(z.union([listed, stated])), {
      description: "Newest first; with their status where `status` was asked for",
    }),
    meta: response(
      "MachinePage",
      {
        total: count("How many match in all"),
        page: count("Of this size, from 1 on", 1),
        pageSize: count("As asked for, at most " + PAGE_LIMIT_MAX, 1),
        hasMore: described(z.boolean(), { description: "Whether something comes after this page" }),
        nextCursor: textOrNull("For `cursor`, to go on; null at the end"),
      },
      "Where this page is in the list.",
    ),
  },
  "A page of artifacts.",
);

const DOCK = inPath(
  "dockId",
  "The dock; it must be the client's, unless the client is its whole organisation's.",
  { type: "string", pattern: "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$" },
  "dock_default",
);
const ARTIFACT_ID = inPath("artifactId", "The artifact's `id`.", { type: "string", minLength: 1 }, ID);

const ARTIFACTS = "/v1/machine/docks/{dockId}/artifacts";
const BEARER = { read: [{ machine: ["artifacts:read"] }], write: [{ machine: ["artifacts:write"] }] };

function accessFaults(scope: string): readonly Fault[] {
  return [
    { code: "unauthenticated", message: "Invalid or expired token" },
    { code: "permission_denied", message: `Insufficient scope. Required: ${scope}` },
    { code: "permission_denied", message: "Access denied to dock dock_other" },
    { code: "not_found", message: "Dock dock_unknown not found" },
    ...OUTAGES,
  ];
}

export function machineOperations(served: Served): readonly Operation[] {
  const { settings } = served;
  const { limits } = settings;
  const tag = "Machine artifacts";
  return [
    tokenOperation(served),
    {
      method: "post",
      path: ARTIFACTS,
      operationId: "createMachineArtifact",
      summary: "Register an artifact",
      description:
        "Answers with a signed URL for the bytes; they are not part of the dock before `complete`. " +
        "If `hash` names content that the dock has, the answer is the artifact that has it, and nothing is to be sent.",
      tag,
      security: BEARER.write,
      parameters: [DOCK],
      body: {
        description:
          "JSON, whatever the content type says. Unknown fields are dropped, null counts as absent.",
        content: json(createRequest(settings.sizeMax), {
          filename: ARTIFACT.filename,
          contentType: ARTIFACT.contentType,
          size: ARTIFACT.size,
          metadata: ARTIFACT.metadata,
          hash: HASH,
        }),
      },
      answers: {
        201: {
          description: "Registered; send the bytes to `uploadUrl`.",
          content: json(created, {
            ...ARTIFACT,
            uploadUrl: UPLOAD_URL,
            uploadId: UPLOAD_ID,
          }),
        },
        200: {
          description: "The dock has this content: nothing is to be sent.",
          content: json(artifact, { ...ARTIFACT, isDuplicate: true }),
        },
      },
      faults: [
        {
          code: "invalid_argument",
          message: ["filename must be a string", "size must be an integer number of bytes"],
        },
        { code: "too_large", message: `File size exceeds the limit of ${settings.sizeMax} bytes` },
        { code: "quota_exceeded", message: "Dock quota exceeded: at most 1000 artifacts" },
        ...bodyFaults(served),
        ...accessFaults("artifacts:write"),
        ...WRITE_FAULTS,
      ],
    },
    {
      method: "post",
      path: `${ARTIFACTS}/upload/complete`,
      operationId: "completeMachineUpload",
      summary: "Complete an upload",
      description:
        "Verifies the bytes and makes them part of the dock. A 200 means: durably stored, under this digest. " +
        "May be repeated; if the dock had the content already, the answer is the artifact that has it.",
      tag,
      security: BEARER.write,
      parameters: [DOCK],
      body: {
        description: "JSON, whatever the content type says.",
        content: json(completeRequest, { uploadId: UPLOAD_ID, s3Key: KEY }),
      },
      answers: {
        200: { description: "Stored.", content: json(completed, { ...ARTIFACT, uploadId: UPLOAD_ID }) },
        202: {
          description: "The bytes are there and still being verified: repeat the call.",
          content: json(completed, { ...ARTIFACT, uploadId: UPLOAD_ID }),
        },
      },
      faults: [
        { code: "invalid_argument", message: ["uploadId must be the uploadId of a create response"] },
        { code: "not_found", message: `Upload ${UPLOAD_ID} not found in dock dock_default` },
        {
          code: "failed_precondition",
          message: "No bytes have been uploaded yet: PUT them to uploadUrl, then complete",
        },
        {
          code: "failed_precondition",
          message:
            "This upload has failed (The upload was not completed before its window ended): create the artifact again",
        },
        { code: "too_large", message: `File size exceeds the limit of ${settings.sizeMax} bytes` },
        { code: "quota_exceeded", message: "Dock quota exceeded: at most 1000 artifacts" },
        {
          code: "integrity_mismatch",
          message: "Uploaded 3 bytes, but size was declared as 4: PUT the right bytes and complete again",
        },
        ...bodyFaults(served),
        ...accessFaults("artifacts:write"),
        ...WRITE_FAULTS,
      ],
    },
    {
      method: "get",
      path: ARTIFACTS,
      operationId: "listMachineArtifacts",
      summary: "List artifacts",
      description:
        "Completed artifacts, newest first, each with a signed download URL. Conditions are joined by AND; a value " +
        "that cannot be read is refused, an unknown parameter is ignored.",
      tag,
      security: BEARER.read,
      parameters: [DOCK, ...listParameters()],
      answers: {
        200: { description: "A page.", content: json(list, { data: [LISTED], meta: META }) },
      },
      faults: [
        { code: "invalid_argument", message: ["limit must be an integer", "offset must be given once"] },
        ...accessFaults("artifacts:read"),
      ],
      rateLimits: [{ ...limits.list, what: "list requests", per: "machine client" }],
    },
    {
      method: "get",
      path: `${ARTIFACTS}/{artifactId}`,
      operationId: "getMachineArtifact",
      summary: "Get an artifact",
      description: "One artifact in whatever status it is, with a signed download URL once it is completed.",
      tag,
      security: BEARER.read,
      parameters: [DOCK, ARTIFACT_ID],
      answers: {
        200: {
          description: "The artifact.",
          content: json(stated, { ...LISTED, status: "upload_completed", errorMessage: null }),
        },
      },
      faults: [
        { code: "not_found", message: `Artifact ${ID} not found in dock dock_default` },
        ...accessFaults("artifacts:read"),
      ],
      isExtension: true,
    },
    {
      method: "delete",
      path: `${ARTIFACTS}/{artifactId}`,
      operationId: "deleteMachineArtifact",
      summary: "Delete an artifact",
      description: "Gone from every list at once; its bytes go after the grace period.",
      tag,
      security: BEARER.write,
      parameters: [DOCK, ARTIFACT_ID],
      answers: { 204: { description: "Deleted." } },
      faults: [
        { code: "not_found", message: `Artifact ${ID} not found in dock dock_default` },
        ...accessFaults("artifacts:write"),
        ...WRITE_FAULTS,
      ],
      isExtension: true,
    },
  ];
}

function createRequest(sizeMax: number): z.ZodType {
  return request(
    "MachineCreate",
    MACHINE_REQUESTS.create,
    {
      filename: {
        description: `The original name with its extension: no path, no control characters, at most ${FILENAME_BYTES_MAX} bytes of UTF-8`,
        ...FILENAME_BOUNDS,
      },
      contentType: {
        description: "A media type (RFC 6838); found by the extension when absent",
        // A slash is escaped for JavaScript's own sake.
        pattern: CONTENT_TYPE.source.replaceAll("\\/", "/"),
      },
      size: {
        description: "Bytes; the upload must have exactly so many. One over the maximum is answered 409",
        type: ["integer", "null"],
        minimum: 0,
        maximum: sizeMax,
      },
      metadata: {
        description: `Anything, to be searched for later: at most ${METADATA_BYTES_MAX} bytes of JSON, ${METADATA_VALUES_MAX} values, ${METADATA_DEPTH_MAX} levels. Numbers are IEEE 754 doubles: give longer ones, such as 64-bit ids, as strings`,
        type: ["object", "null"],
        additionalProperties: true,
        "x-docyard-max-bytes": METADATA_BYTES_MAX,
        "x-docyard-max-values": METADATA_VALUES_MAX,
        "x-docyard-max-depth": METADATA_DEPTH_MAX,
      },
      hash: {
        description: "SHA-256 of the content in hex, for dedup and for verification of the upload",
        pattern: "^([sS][hH][aA]256:)?[0-9a-fA-F]{64}$",
      },
    },
    { description: "What is about to be uploaded." },
  );
}

const completeRequest = request(
  "MachineComplete",
  MACHINE_REQUESTS.complete,
  {
    uploadId: { description: "The `uploadId` that create answered with" },
    s3Key: {
      description: "The `storageKey` that create answered with; optional, and refused if it is another",
    },
  },
  { description: "Which upload is complete." },
);

function listParameters(): readonly object[] {
  const date = {
    anyOf: [
      { type: "string", format: "date-time" },
      { type: "string", format: "date" },
    ],
  };
  return [
    query(
      "limit",
      `How many at most; more than ${PAGE_LIMIT_MAX} is taken for ${PAGE_LIMIT_MAX}.`,
      { type: "integer", minimum: 1, default: PAGE_LIMIT_DEFAULT },
      50,
    ),
    query("offset", "How many to leave out first.", { type: "integer", minimum: 0, default: 0 }, 0),
    query(
      "search",
      "Part of the filename; blind to case, nothing is a wildcard.",
      { type: "string", maxLength: SEARCH_LENGTH_MAX, pattern: "^[^\\u0000]*$" },
      "report",
    ),
    // As text: clients that are generated write an object in ways of their own, whatever the document says.
    query(
      "metadata",
      "A JSON object that the metadata must contain: same types, nested objects recursively, arrays as sets.",
      { type: "string", contentMediaType: "application/json", contentSchema: { type: "object" } },
      '{"patientId":"12345"}',
    ),
    query(
      "createdAfter",
      "Created then or later (ISO 8601). That is when an artifact was registered; it is listed once it is completed, " +
        "by default up to a day later: whoever polls for what is new asks again for the day before.",
      date,
      "2026-11-01T00:00:00Z",
    ),
    query("createdBefore", "Created before then (ISO 8601).", date, "2026-12-01"),
    {
      ...query(
        "cursor",
        "The `nextCursor` of an earlier page: goes on from there, losing and repeating nothing while new ones arrive. Not together with `offset`.",
        { type: "string", pattern: "^[A-Za-z0-9_-]{1,120}$" },
        "MTc5NTMzNjUwMDAwMDphcnRfMDFLQzhXNVY3TjNNMlE0UjZUOFkwWjFBMkI",
      ),
      "x-docyard-extension": true,
    },
    {
      ...query(
        "status",
        "Artifacts in these statuses rather than completed ones; each is then shown with its status.",
        { type: "array", items: { type: "string", enum: [...VISIBLE_STATUSES] }, minItems: 1 },
        ["created", "upload_failed"],
      ),
      style: "form",
      explode: false,
      "x-docyard-extension": true,
    },
  ];
}

function tokenOperation(served: Served): Operation {
  const { limits } = served.settings;
  const tokenRequest = request(
    "TokenRequest",
    MACHINE_REQUESTS.token,
    {
      grant_type: { description: "The only grant there is", enum: ["client_credentials"] },
      client_id: { description: "`dyc_…`; unless it is in a Basic header" },
      client_secret: { description: "`dys_live_…`; unless it is in a Basic header", format: "password" },
      scope: {
        description: `Some of the client's scopes, separated by spaces; all when absent. Known: ${SCOPES.join(", ")}`,
      },
    },
    { description: "Client credentials (RFC 6749, section 4.4)." },
  );
  const example = {
    grant_type: "client_credentials",
    client_id: "dyc_01KC8W5V7N3M2Q4R6T8Y0Z1A2D",
    client_secret: "dys_live_example",
    scope: "artifacts:read artifacts:write",
  };
  return {
    method: "post",
    path: "/v1/oauth/token",
    operationId: "issueToken",
    summary: "Get an access token",
    description: "Credentials come in the body or in an `Authorization: Basic` header, not in both.",
    tag: "Tokens",
    security: [{}, { clientBasic: [] }],
    body: {
      description: "JSON or a form, whatever the content type says.",
      content: {
        "application/json": { schema: tokenRequest, example },
        "application/x-www-form-urlencoded": { schema: tokenRequest, example },
      },
    },
    answers: {
      200: {
        description: "A token for `Authorization: Bearer`.",
        content: json(
          response(
            "Token",
            {
              access_token: text("Opaque", { pattern: "^dyt_live_" }),
              token_type: described(z.literal("Bearer"), { description: "Always Bearer" }),
              expires_in: count("Seconds until it expires", 1),
              scope: text("What it is good for, separated by spaces"),
            },
            "An access token.",
          ),
          {
            access_token: "dyt_live_eyJhbGciOiJFZERTQSJ9.e30.c2lnbmF0dXJl",
            token_type: "Bearer",
            expires_in: 3600,
            scope: "artifacts:read artifacts:write",
          },
        ),
      },
    },
    faults: [
      {
        code: "invalid_argument",
        message: ["client_id should not be empty", "client_secret should not be empty"],
      },
      { code: "invalid_argument", message: "Invalid scope: artifacts:fly" },
      { code: "unauthenticated", message: "Invalid client credentials" },
      { code: "permission_denied", message: "Client is deactivated" },
      ...bodyFaults(served),
      ...OUTAGES,
    ],
    rateLimits: [{ ...limits.token, what: "tokens", per: "machine client" }],
  };
}
