/**
 * The whole API as one OpenAPI 3.1 document, made from the shapes that the handlers parse with and the tables that
 * errors are answered by (decision 11). Loaded and built when somebody asks for it first, and served by `docs.ts`.
 */

import { OpenApiGeneratorV31, OpenAPIRegistry } from "@asteasolutions/zod-to-openapi";
import { SCOPES } from "@docyard/core";
import { blobOperations } from "./blobs.ts";
import { MACHINE_FAULTS, machineOperations } from "./machine.ts";
import type { Served } from "./operation.ts";
import { HEADERS, routeOf } from "./operation.ts";
import { serviceOperations } from "./service.ts";
import { STUDIO_FAULTS, STUDIO_SCHEMAS, studioOperations } from "./studio.ts";

const DESCRIPTION = `Takes files from machines and gives them back whole.

The **machine face** is for programs: a token, an artifact, its bytes to a signed URL, complete. The **Studio face**
fetches media itself, in the background. Operations marked \`x-docyard-extension\` are this server's own.

Errors have the envelope of the face whose path it is, also where there is no route: 404 for an unknown path, 405 with
\`Allow\` for a method that a path does not have. Every \`GET\` is answered to \`HEAD\`, too, without the body. Every
answer has an \`X-Request-Id\`, under which the server's log has the request.

**Signed URLs** are used as they were handed out, without a credential: each is one, for as long as it lasts, and for its
own method: 403 for any other. Where the storage is a bucket, they lead there.`;

const TAGS = [
  { name: "Tokens", description: "Client credentials become an access token." },
  { name: "Machine artifacts", description: "The machine face." },
  { name: "Studio artifacts", description: "The Studio face." },
  { name: "Bytes", description: "Signed URLs of this server's own storage." },
  { name: "Service", description: "Health, metrics, and this document." },
];

export function buildDocument(served: Served): object {
  const { prefix, version } = served;
  const registry = new OpenAPIRegistry();
  const scopes = Object.fromEntries(SCOPES.map((scope) => [scope, SCOPE_WORDS[scope]]));
  registry.registerComponent("securitySchemes", "machine", {
    type: "oauth2",
    description: "An access token of a machine client, as `Authorization: Bearer dyt_live_…`.",
    flows: { clientCredentials: { tokenUrl: `${prefix}/v1/oauth/token`, scopes } },
  });
  registry.registerComponent("securitySchemes", "clientBasic", {
    type: "http",
    scheme: "basic",
    description: "Client id and secret, each form-encoded first (RFC 6749, section 2.3.1).",
  });
  registry.registerComponent("securitySchemes", "studioKey", {
    type: "http",
    scheme: "bearer",
    description: "An API key, as `Authorization: Bearer dk_live_…`.",
  });
  for (const [name, { name: _name, ...header }] of Object.entries(HEADERS)) {
    registry.registerComponent("headers", name, { ...header, required: true });
  }
  for (const [name, schema] of Object.entries(STUDIO_SCHEMAS)) registry.register(name, schema);
  for (const operation of [
    ...machineOperations(served),
    ...blobOperations(served),
    ...serviceOperations(served),
  ]) {
    registry.registerPath(routeOf(operation, MACHINE_FAULTS));
  }
  for (const operation of studioOperations(served)) registry.registerPath(routeOf(operation, STUDIO_FAULTS));
  return new OpenApiGeneratorV31(registry.definitions, { sortComponents: "alphabetically" }).generateDocument(
    {
      openapi: "3.1.0",
      info: {
        title: "docyard",
        version,
        description: DESCRIPTION,
        license: { name: "Apache-2.0", identifier: "Apache-2.0" },
      },
      servers: [{ url: prefix === "" ? "/" : prefix, description: "This server" }],
      tags: TAGS,
    },
  );
}

const SCOPE_WORDS: Readonly<Record<(typeof SCOPES)[number], string>> = {
  "artifacts:read": "List, get and download artifacts",
  "artifacts:write": "Create, complete and delete artifacts",
  "policies:read": "Of the vendor's API; opens nothing here",
  "recipients:read": "Of the vendor's API; opens nothing here",
  "audit:read": "Of the vendor's API; opens nothing here",
};
