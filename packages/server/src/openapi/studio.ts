/**
 * The Studio face in the document: presign, create, get (contract 1H to 1J), list and delete as extensions.
 * Shapes of requests come from `studio-wire.ts`; what answers look like is said here once.
 */

import {
  FRAGMENTS_MAX,
  LOCATION_LENGTH_MAX,
  MEDIA_TYPES,
  PAGE_LIMIT_DEFAULT,
  PAGE_LIMIT_MAX,
  START_TIME_MAX,
  STUDIO_NAME_LENGTH_MAX,
  VISIBLE_STATUSES,
} from "@docyard/core";
import { z } from "zod";
import { studioErrors } from "../studio.ts";
import { STUDIO_REQUESTS } from "../studio-wire.ts";
import { FILENAME_BOUNDS } from "./machine.ts";
import type { Fault, FaultWords, Operation, Served } from "./operation.ts";
import { bodyFaults, inPath, json, OUTAGES, query, WRITE_FAULTS } from "./operation.ts";
import type { Words } from "./shape.ts";
import { count, described, request, response, text, textOrNull, timestamp, url } from "./shape.ts";

export const STUDIO_FAULTS: FaultWords = {
  face: studioErrors,
  schema: response(
    "StudioError",
    {
      error: text("What is wrong, and what to fix"),
      message: text("The same, for clients that read it here"),
      status: described(z.int(), { description: "The HTTP status", minimum: 400, maximum: 599 }),
    },
    "The envelope of every error below `/api/`.",
  ),
};

const ID = "6921d2f49b1c8e0012a4f7d3";
const S3_PATH = "s3://docyard/temp/temp_01KC8W5V7N3M2Q4R6T8Y0Z1A2E-4f1d0c6b9a2e7d38/film.mp4";
const SIGNATURE = "signature=4f1d0c6b9a2e7d3858b0c1a6e9f2d47350a8b6c1d2e3f40516273849a0b1c2d3";

const ARTIFACT = {
  id: ID,
  name: "Opening titles",
  type: "video",
  status: "created",
  uploadMethod: "direct_url",
  size: null,
  duration: null,
  errorMessage: null,
  s3Path: `docks/dock_default/uploads/${ID}/video`,
  s3Bucket: "docyard",
  createdAt: "2026-11-22T09:15:00.000Z",
  updatedAt: "2026-11-22T09:15:00.000Z",
  company: { id: "org_01KC8W5V7N3M2Q4R6T8Y0Z1A2F", name: "Metro General" },
  createdBy: { id: "key_01KC8W5V7N3M2Q4R6T8Y0Z1A2G", name: "Editor" },
};
const COMPLETED = {
  ...ARTIFACT,
  status: "upload_completed",
  size: 40_960,
  duration: 138.301,
  downloadUrl: `https://files.example.com/v1/blobs/docks/dock_default/uploads/${ID}/video-9f86d081?artifact=${ID}&expires=1795340100000&${SIGNATURE}`,
  expiresAt: "2026-11-22T10:15:00.000Z",
};

const someone = { id: text("Opaque"), name: text("What it is called") };
const artifactFields = {
  id: text("Names the artifact for ever", { pattern: "^[0-9a-f]{24}$" }),
  name: text("Display name"),
  type: described(z.enum(MEDIA_TYPES), { description: "What kind of media it is" }),
  status: described(z.enum(VISIBLE_STATUSES), {
    description: "How far it is; `upload_completed` and `upload_failed` are final",
  }),
  uploadMethod: described(z.enum(["direct_url", "fragments"]), {
    description: "Whether it comes from one source or is joined from fragments",
  }),
  size: described(z.int().nullable(), { description: "Bytes; null until completed", minimum: 0 }),
  duration: described(z.number().nullable(), {
    description: "Seconds, to the millisecond; null until completed, and for scripts",
    minimum: 0,
  }),
  errorMessage: textOrNull("Why it failed, if it did"),
  s3Path: text("Where the storage has it"),
  s3Bucket: text("What stands for the storage"),
  createdAt: timestamp("When it was created"),
  updatedAt: timestamp("When it last changed"),
  company: response("StudioCompany", someone, "Whose it is."),
  createdBy: response("StudioKey", someone, "The API key that made it.").optional(),
};

const artifact = response("StudioArtifact", artifactFields, "An artifact as create answers it.");
const listed = response(
  "StudioListedArtifact",
  {
    ...artifactFields,
    downloadUrl: url("Signed: hands out the bytes to whoever has it; there once it is completed").optional(),
    expiresAt: timestamp("When `downloadUrl` stops working").optional(),
  },
  "An artifact, with a URL for its bytes once there are any.",
);
const presigned = response(
  "StudioPresigned",
  {
    s3Path: text("For create, exactly as it is", { pattern: "^s3://" }),
    presignedUploadUrl: url("Signed: takes the bytes by PUT from whoever has it, until `expiresAt`"),
    expiresAt: timestamp("When the URL stops working"),
    uploadHeaders: described(z.record(z.string(), z.string()).optional(), {
      description: "Headers that the PUT must carry, where the storage asks for any",
    }),
  },
  "Where to send a local file.",
);
const list = response(
  "StudioList",
  {
    data: described(z.array(listed), { description: "Newest first" }),
    meta: response(
      "StudioPage",
      {
        total: count("How many match in all"),
        page: count("From 1 on", 1),
        pageSize: count(`As asked for, at most ${PAGE_LIMIT_MAX}`, 1),
        hasMore: described(z.boolean(), { description: "Whether something comes after this page" }),
      },
      "Where this page is in the list.",
    ),
  },
  "A page of artifacts.",
);

/** Exactly one of them is given; null is absent. */
function exactlyOneOf(present: Readonly<Record<string, Words>>): readonly object[] {
  return Object.keys(present).map((name) => ({
    title: `by ${name}`,
    required: [name],
    properties: Object.fromEntries(
      Object.entries(present).map(([other, words]) => [other, other === name ? words : { type: "null" }]),
    ),
  }));
}

const S3_PATH_WORDS: Words = {
  description:
    "`s3://bucket/key`: of a presigned upload, or of a bucket that the API key has credentials for",
  maxLength: LOCATION_LENGTH_MAX,
  pattern: "^s3://[A-Za-z0-9][A-Za-z0-9._-]{1,254}/[\\s\\S]+$",
};
const URL_WORDS: Words = {
  description: "An absolute http or https URL without credentials",
  maxLength: LOCATION_LENGTH_MAX,
  pattern: "^[hH][tT][tT][pP][sS]?:",
};
const FRAGMENTS_WORDS: Words = {
  description: "Parts that are joined in the order of their start times",
  items: { $ref: "#/components/schemas/StudioFragment" },
  minItems: 1,
  maxItems: FRAGMENTS_MAX,
};

const fragment = request(
  "StudioFragment",
  STUDIO_REQUESTS.fragment,
  {
    s3Path: S3_PATH_WORDS,
    url: URL_WORDS,
    startTime: {
      description: "Where it begins on the timeline of the result, in seconds",
      minimum: 0,
      maximum: START_TIME_MAX,
    },
  },
  {
    description: "A part of the result: exactly one of `s3Path` and `url`.",
    oneOf: exactlyOneOf({
      s3Path: { type: "string", ...S3_PATH_WORDS },
      url: { type: "string", ...URL_WORDS },
    }),
  },
);

const createRequest = request(
  "StudioCreate",
  STUDIO_REQUESTS.create,
  {
    name: {
      description: `Display name, without control characters; at most ${STUDIO_NAME_LENGTH_MAX} UTF-16 units`,
      minLength: 1,
      maxLength: STUDIO_NAME_LENGTH_MAX,
      pattern:
        "^[^\\u0000-\\u001f\\u007f-\\u009f\\ud800-\\udfff]*[^\\s\\u0000-\\u001f\\u007f-\\u009f\\ud800-\\udfff][^\\u0000-\\u001f\\u007f-\\u009f\\ud800-\\udfff]*$",
    },
    type: { description: "What kind of media it is; a script has no fragments" },
    s3Path: S3_PATH_WORDS,
    url: URL_WORDS,
    fragments: { ...FRAGMENTS_WORDS, type: ["array", "null"] },
  },
  {
    description: "What to fetch: exactly one of `s3Path`, `url` and `fragments`.",
    oneOf: exactlyOneOf({
      s3Path: { type: "string", ...S3_PATH_WORDS },
      url: { type: "string", ...URL_WORDS },
      fragments: { type: "array", ...FRAGMENTS_WORDS },
    }),
    if: { properties: { type: { const: "script" } }, required: ["type"] },
    // oxlint-disable-next-line unicorn/no-thenable -- a keyword of JSON Schema
    then: { properties: { fragments: { type: "null" } } },
  },
);

/** Schemas that only a `$ref` mentions. */
export const STUDIO_SCHEMAS: Readonly<Record<string, z.ZodType>> = { StudioFragment: fragment };

const ARTIFACTS = "/api/v1/artifacts";
const CREATE = `${ARTIFACTS}/create`;
const ARTIFACT_ID = inPath("artifactId", "The artifact's `id`.", { type: "string", minLength: 1 }, ID);
const SECURITY = [{ studioKey: [] }];

const NOT_FOUND: Fault = { code: "not_found", message: "Artifact not found" };

export function studioOperations(served: Served): readonly Operation[] {
  const { studio, studioDaily } = served.settings.limits;
  const common = {
    tag: "Studio artifacts",
    security: SECURITY,
    rateLimits: [
      { ...studio, what: "requests", per: "API key" },
      { ...studioDaily, what: "requests", per: "API key" },
    ],
  };
  const faults: readonly Fault[] = [
    { code: "unauthenticated", message: "Missing or invalid API key" },
    ...OUTAGES,
  ];
  return [
    {
      ...common,
      method: "post",
      path: CREATE,
      operationId: "createStudioArtifact",
      summary: "Create an artifact",
      description:
        "Registers it and fetches in the background: from a URL, an S3 path, a presigned upload, or a list of " +
        "fragments that are joined. Ask for the artifact until its status is final.",
      body: {
        description:
          "JSON, whatever the content type says. Unknown fields are dropped, null counts as absent.",
        content: json(createRequest, {
          name: ARTIFACT.name,
          type: "video",
          url: "https://cdn.example.com/titles.mp4",
        }),
      },
      answers: { 201: { description: "Registered.", content: json(artifact, ARTIFACT) } },
      faults: [
        {
          code: "invalid_argument",
          message: ["exactly one of s3Path, url or fragments must be given"],
        },
        { code: "quota_exceeded", message: "Dock quota exceeded: at most 1000 artifacts" },
        ...bodyFaults(served),
        ...faults,
        ...WRITE_FAULTS,
      ],
    },
    {
      ...common,
      method: "get",
      path: CREATE,
      operationId: "presignStudioUpload",
      summary: "Get a place for a local file",
      description:
        "Answers with a signed URL that takes the bytes by PUT, and the `s3Path` that names them in create.",
      parameters: [
        {
          ...query(
            "fileName",
            "With its extension, which tells the type.",
            { type: "string", ...FILENAME_BOUNDS },
            "film.mp4",
          ),
          required: true,
        },
      ],
      answers: {
        200: {
          description: "Where to PUT.",
          content: json(presigned, {
            s3Path: S3_PATH,
            presignedUploadUrl: `https://files.example.com/v1/blobs/incoming/temp_01KC8W5V7N3M2Q4R6T8Y0Z1A2E.dock_default?artifact=temp_01KC8W5V7N3M2Q4R6T8Y0Z1A2E&expires=1795422900000&max=5368709120&${SIGNATURE}`,
            expiresAt: "2026-11-23T09:15:00.000Z",
          }),
        },
      },
      faults: [{ code: "invalid_argument", message: ["fileName must be given"] }, ...faults, ...WRITE_FAULTS],
    },
    {
      ...common,
      method: "get",
      path: ARTIFACTS,
      operationId: "listStudioArtifacts",
      summary: "List artifacts",
      description: "Newest first, in every status unless one is named.",
      parameters: [
        query(
          "limit",
          `How many at most; more than ${PAGE_LIMIT_MAX} is taken for ${PAGE_LIMIT_MAX}.`,
          { type: "integer", minimum: 1, default: PAGE_LIMIT_DEFAULT },
          50,
        ),
        query("page", "Which page of that size.", { type: "integer", minimum: 1, default: 1 }, 1),
        query(
          "status",
          "Only this status.",
          { type: "string", enum: [...VISIBLE_STATUSES] },
          "upload_completed",
        ),
        query("type", "Only this kind of media.", { type: "string", enum: [...MEDIA_TYPES] }, "video"),
      ],
      answers: {
        200: {
          description: "A page.",
          content: json(list, {
            data: [COMPLETED],
            meta: { total: 1, page: 1, pageSize: 20, hasMore: false },
          }),
        },
      },
      faults: [{ code: "invalid_argument", message: ["limit must be an integer of at least 1"] }, ...faults],
      isExtension: true,
    },
    {
      ...common,
      method: "get",
      path: `${ARTIFACTS}/{artifactId}`,
      operationId: "getStudioArtifact",
      summary: "Get an artifact",
      description: "With a signed download URL once it is completed.",
      parameters: [ARTIFACT_ID],
      answers: { 200: { description: "The artifact.", content: json(listed, COMPLETED) } },
      faults: [NOT_FOUND, ...faults],
    },
    {
      ...common,
      method: "delete",
      path: `${ARTIFACTS}/{artifactId}`,
      operationId: "deleteStudioArtifact",
      summary: "Delete an artifact",
      description: "Gone at once, also while it is still being fetched; its bytes go after the grace period.",
      parameters: [ARTIFACT_ID],
      answers: { 204: { description: "Deleted." } },
      faults: [NOT_FOUND, ...faults, ...WRITE_FAULTS],
      isExtension: true,
    },
  ];
}
