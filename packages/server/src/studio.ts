/**
 * The Studio face: presign, create, get (contract 1H to 1J) and a list as an extension. Each handler opens the key's
 * dock, which takes one of its requests, before it reads a body or a query; words are in `studio-wire.ts`.
 */

import type { Docyard, StudioDock, StudioListed } from "@docyard/core";
import { DocyardError, isDocyardError } from "@docyard/core";
import type { Hono } from "hono";
import { bearerOf } from "./auth.ts";
import { parseJson, readText } from "./body.ts";
import type { AppContext, AppEnv } from "./exchange.ts";
import { replyEmpty, replyJson } from "./exchange.ts";
import type { ErrorFace } from "./fault.ts";
import { refuseMethod } from "./fault.ts";
import { queryOf } from "./input.ts";
import type { Metrics } from "./metrics.ts";
import type { Viewer } from "./studio-wire.ts";
import {
  artifactJson,
  listedJson,
  pageJson,
  presignedJson,
  readCreate,
  readListQuery,
  readPresignQuery,
  STUDIO_STATUS,
  studioError,
} from "./studio-wire.ts";

/** Everything below is this face's, also where it has no route. */
const API_PATH = "/api/";
const ARTIFACTS_PATH = `${API_PATH}v1/artifacts`;
const CREATE_PATH = `${ARTIFACTS_PATH}/create`;
const ARTIFACT_PATH = `${ARTIFACTS_PATH}/:artifactId`;

export interface StudioFaceOptions {
  readonly docyard: Docyard;
  readonly metrics: Pick<Metrics, "created">;
  readonly bodyBytesMax: number;
}

export const studioErrors: ErrorFace = {
  owns: (path) => path.startsWith(API_PATH),
  statusOf: STUDIO_STATUS,
  envelope: studioError,
};

export function mountStudio(app: Hono<AppEnv>, { docyard, metrics, bodyBytesMax }: StudioFaceOptions): void {
  const viewer = (studio: StudioDock): Viewer => ({
    organization: studio.organization,
    bucketName: docyard.settings.bucketName,
  });

  app.post(CREATE_PATH, async (c) => {
    const studio = await open(c, docyard);
    const input = readCreate(parseJson(await readText(c, bodyBytesMax)));
    const artifact = await studio.create(input);
    c.get("exchange").artifactId = artifact.id;
    metrics.created(false);
    return replyJson(c, artifactJson(artifact, studio.key, viewer(studio)), { status: 201 });
  });

  // Before the route of single artifacts: the literal wins (contract 49).
  app.get(CREATE_PATH, async (c) => {
    const studio = await open(c, docyard);
    const { s3Path, upload } = await studio.presign(readPresignQuery(queryOf(c.req.url)));
    return replyJson(c, presignedJson(s3Path, upload));
  });

  // Here and not with all others: a method that only single artifacts have would take the literal for an id.
  app.all(CREATE_PATH, refuseMethod("GET, HEAD, POST"));

  app.get(ARTIFACTS_PATH, async (c) => {
    const studio = await open(c, docyard);
    const { items, page } = await studio.list(readListQuery(queryOf(c.req.url)));
    const view = viewer(studio);
    return replyJson(c, { data: items.map((item) => listedJson(item, view)), meta: pageJson(page) });
  });

  app.get(ARTIFACT_PATH, async (c) => {
    const studio = await open(c, docyard);
    const found = await find(studio, c.req.param("artifactId"));
    // Not before it is known to be an id: it might be anything, a key in the wrong place too.
    c.get("exchange").artifactId = found.artifact.id;
    return replyJson(c, listedJson(found, viewer(studio)));
  });

  app.delete(ARTIFACT_PATH, async (c) => {
    const studio = await open(c, docyard);
    const { artifact } = await find(studio, c.req.param("artifactId"));
    c.get("exchange").artifactId = artifact.id;
    await studio.remove(artifact.id);
    return replyEmpty(c);
  });
}

/**
 * The dock behind the request's API key.
 * @throws DocyardError `unauthenticated`, the answer then carries a challenge; `resource_exhausted`.
 */
async function open(c: AppContext, docyard: Docyard): Promise<StudioDock> {
  const studio = await docyard.openStudio(
    bearerOf(c, "Missing API key: send Authorization: Bearer dk_live_…"),
  );
  c.get("exchange").principalId = studio.key.id;
  return studio;
}

/** The vendor's sentence for all that cannot be shown: it tells no difference (contract 64). */
async function find(studio: StudioDock, id: string): Promise<StudioListed> {
  try {
    return await studio.get(id);
  } catch (error) {
    if (isDocyardError(error, "not_found")) throw new DocyardError("not_found", "Artifact not found");
    throw error;
  }
}
