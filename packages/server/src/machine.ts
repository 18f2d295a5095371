/**
 * The machine face: the vendor's token endpoint and artifact routes (contract 1A to 1E), and the two extensions on a
 * single artifact. Each handler authorises before it reads a body or a query (contract 24); words are in `machine-wire.ts`.
 */

import type { DockFor, Docyard } from "@docyard/core";
import { DocyardError } from "@docyard/core";
import type { Hono } from "hono";
import type { ClientCredentials } from "./auth.ts";
import { authenticate, BASIC_CHALLENGE, basicCredentials } from "./auth.ts";
import { parseJson, readText } from "./body.ts";
import type { AppContext, AppEnv } from "./exchange.ts";
import { replyEmpty, replyJson } from "./exchange.ts";
import type { ErrorFace } from "./fault.ts";
import { invalid, queryOf } from "./input.ts";
import type { Logger } from "./log.ts";
import type { TokenRequest } from "./machine-wire.ts";
import {
  artifactJson,
  listedJson,
  MACHINE_STATUS,
  machineError,
  pageJson,
  readComplete,
  readCreate,
  readListQuery,
  readTokenRequest,
  statedJson,
  uploadJson,
} from "./machine-wire.ts";
import type { Metrics } from "./metrics.ts";
import type { Tokens } from "./tokens.ts";

export const TOKEN_PATH = "/v1/oauth/token";
const ARTIFACTS_PATH = "/v1/machine/docks/:dockId/artifacts";
const COMPLETE_PATH = `${ARTIFACTS_PATH}/upload/complete`;
const ARTIFACT_PATH = `${ARTIFACTS_PATH}/:artifactId`;

export interface MachineFaceOptions {
  readonly docyard: Docyard;
  readonly tokens: Tokens;
  readonly metrics: Metrics;
  readonly log: Logger;
  readonly bodyBytesMax: number;
}

/** Speaks for every path no other face owns: the default. */
export const machineErrors: ErrorFace = {
  owns: () => true,
  statusOf: MACHINE_STATUS,
  envelope: machineError,
};

export function mountMachine(app: Hono<AppEnv>, options: MachineFaceOptions): void {
  const { docyard, tokens, metrics, log, bodyBytesMax } = options;

  const open = async <S extends keyof DockFor>(c: AppContext, scope: S): Promise<DockFor[S]> => {
    const principal = await authenticate(c, docyard, tokens);
    return docyard.open(principal, c.req.param("dockId") ?? "", scope);
  };

  app.post(TOKEN_PATH, async (c) => {
    const exchange = c.get("exchange");
    exchange.challenge = BASIC_CHALLENGE;
    const basic = basicCredentials(c.req.header("authorization"));
    const request = readTokenRequest(parseTokenBody(await readText(c, bodyBytesMax)));
    if (request.grant_type !== "client_credentials") {
      throw new DocyardError("invalid_argument", "Invalid grant_type: it must be client_credentials");
    }
    const credentials = oneCredential(basic, request);
    const scopes = (request.scope ?? "").split(" ").filter((scope) => scope !== "");
    const principal = await docyard.authenticate({ ...credentials, scopes });
    exchange.principalId = principal.id;
    const { accessToken, expiresIn } = await tokens.issue(principal, credentials.clientId);
    metrics.tokenIssued();
    // The vendor audits every issuance: client, time, scopes (contract 1E).
    log.info({ requestId: exchange.id, principalId: principal.id, scopes: principal.scopes }, "token issued");
    return replyJson(
      c,
      {
        access_token: accessToken,
        token_type: "Bearer",
        expires_in: expiresIn,
        scope: principal.scopes.join(" "),
      },
      { headers: { Pragma: "no-cache" } },
    );
  });

  app.post(ARTIFACTS_PATH, async (c) => {
    const dock = await open(c, "artifacts:write");
    const input = await readCreate(parseJson(await readText(c, bodyBytesMax)));
    const created = await dock.create(input);
    c.get("exchange").artifactId = created.artifact.id;
    metrics.created(created.isDuplicate);
    const artifact = artifactJson(created.artifact, created.isDuplicate);
    // A duplicate has nothing to upload (contract 8).
    return created.isDuplicate
      ? replyJson(c, artifact)
      : replyJson(c, { ...artifact, ...uploadJson(created.artifact, created.upload) }, { status: 201 });
  });

  app.post(COMPLETE_PATH, async (c) => {
    const dock = await open(c, "artifacts:write");
    const input = readComplete(parseJson(await readText(c, bodyBytesMax)));
    const { artifact, isDuplicate } = await dock.complete(input);
    c.get("exchange").artifactId = artifact.id;
    const isPending = artifact.status === "upload_started";
    metrics.completed(isDuplicate ? "duplicate" : isPending ? "pending" : "stored");
    return replyJson(
      c,
      { ...artifactJson(artifact, isDuplicate), uploadId: input.uploadId },
      { status: isPending ? 202 : 200 },
    );
  });

  app.get(ARTIFACTS_PATH, async (c) => {
    const dock = await open(c, "artifacts:read");
    const input = readListQuery(queryOf(c.req.url));
    const { items, page } = await dock.list(input);
    const item = input.statuses === undefined ? listedJson : statedJson;
    return replyJson(c, { data: items.map(item), meta: pageJson(page) });
  });

  app.get(ARTIFACT_PATH, async (c) => {
    const dock = await open(c, "artifacts:read");
    const listed = await dock.get(c.req.param("artifactId"));
    c.get("exchange").artifactId = listed.artifact.id;
    return replyJson(c, statedJson(listed));
  });

  app.delete(ARTIFACT_PATH, async (c) => {
    const dock = await open(c, "artifacts:write");
    const id = c.req.param("artifactId");
    await dock.remove(id);
    // Only now: until it is found, an id is any text a client sends, and no text for the log.
    c.get("exchange").artifactId = id;
    return replyEmpty(c);
  });
}

/**
 * JSON where it looks like JSON, else a form (RFC 6749 section 4.4.2), whatever the content type says. A form's fields
 * without a value count as absent (section 3.2).
 */
function parseTokenBody(text: string): unknown {
  if (text.trim() === "" || /^\s*[{["]/.test(text)) return parseJson(text);
  const fields: Record<string, string> = {};
  for (const [name, value] of new URLSearchParams(text)) {
    if (!FORM_FIELDS.has(name) || value === "") continue;
    if (fields[name] !== undefined) {
      throw new DocyardError("invalid_argument", `${name} must be given once`);
    }
    fields[name] = value;
  }
  return fields;
}

const FORM_FIELDS: ReadonlySet<string> = new Set(["grant_type", "client_id", "client_secret", "scope"]);

/**
 * The only credential of the request (RFC 6749 section 2.3 allows one). A `client_id` beside Basic is no second one if
 * it names the same client.
 */
function oneCredential(basic: ClientCredentials | null, request: TokenRequest): ClientCredentials {
  const { client_id: clientId, client_secret: clientSecret } = request;
  if (basic !== null) {
    if (clientSecret != null || (clientId != null && clientId !== basic.clientId)) {
      throw new DocyardError(
        "invalid_argument",
        "Several client credentials: send them in the body or in the Authorization header, not in both",
      );
    }
    return basic;
  }
  const issues = [
    ...(clientId == null || clientId === "" ? ["client_id should not be empty"] : []),
    ...(clientSecret == null || clientSecret === "" ? ["client_secret should not be empty"] : []),
  ];
  if (clientId == null || clientSecret == null || issues.length > 0) {
    throw invalid(issues);
  }
  return { clientId, clientSecret };
}
