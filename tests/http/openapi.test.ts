/**
 * The published document: valid by OpenAPI's own rules, complete against the routes that are there, its examples true
 * to their schemas, and the contract hook itself. That answers obey it is checked with every request of every suite.
 */

import { Validator } from "@seriousme/openapi-schema-validator";
import { describe, expect, test } from "vitest";
import type { ApiDocument, JsonSchema, MediaType, Operation } from "./contract.ts";
import { contractOf, documentOf, fullApp, METHODS, schemasOf } from "./contract.ts";
import { openHarness } from "./harness.ts";
import { manualClock, openWorld, requestToken } from "./target.ts";

const app = fullApp();
const document: ApiDocument = await documentOf(app);
const schemas = schemasOf(document);

const operations: readonly (readonly [string, string, Operation])[] = Object.entries(document.paths).flatMap(
  ([path, item]) =>
    METHODS.flatMap((method) => (item[method] === undefined ? [] : [[method, path, item[method]] as const])),
);

const named = operations.map(
  ([method, path, operation]) => [operation.operationId, { method, path, operation }] as const,
);

/** Hono's words for a path in the document's. */
function template(pattern: string): string {
  return pattern.replaceAll(/:(\w+)/g, "{$1}").replace(/\*$/, "{key}");
}

test("is OpenAPI 3.1, by its meta-schema", async () => {
  expect(document.openapi).toBe("3.1.0");
  const { valid, errors } = await new Validator().validate({ ...structuredClone(document) });
  expect(errors).toBeUndefined();
  expect(valid).toBe(true);
});

test("a document that breaks OpenAPI's rules would be noticed", async () => {
  const broken = structuredClone(document) as { paths: Record<string, unknown> };
  broken.paths["/v1/healthz"] = { get: { responses: { 200: {} } } };
  expect((await new Validator().validate(broken)).valid).toBe(false);
});

test("has every route that is there, and no other", () => {
  const routes = app.routes.filter(({ path, method }) => path !== "/*" && method !== "ALL");
  const served = routes.map(({ method, path }) => `${method.toLowerCase()} ${template(path)}`);
  // One handler for all methods of a signed URL.
  const bytes = app.routes.filter(({ path }) => path.endsWith("/*") && path !== "/*");
  expect(bytes.map(({ path }) => path)).toEqual(["/v1/blobs/*"]);
  for (const method of ["get", "head", "put", "options"]) served.push(`${method} /v1/blobs/{key}`);
  const described = operations.map(([method, path]) => `${method} ${path}`);
  expect(described.toSorted()).toEqual(served.toSorted());
});

test("an app without what it can do without has a document without it", async () => {
  const harness = await openHarness({ blobs: ({ serve: _serve, ...blobs }) => blobs });
  const paths = Object.keys((await documentOf(harness.app)).paths);
  expect(paths).not.toContain("/v1/blobs/{key}");
  expect(paths).not.toContain("/docs/reference.js");
  expect(Object.keys(document.paths).filter((path) => !paths.includes(path))).toEqual([
    "/v1/blobs/{key}",
    "/docs/reference.js",
  ]);
  await harness.close();
});

test("its addresses lie below the public URL's path", async () => {
  const harness = await openHarness({ publicUrl: () => "https://files.example.com/yard/" });
  const there = (await documentOf(harness.app)) as ApiDocument & { servers: { url: string }[] };
  expect(there.servers.map(({ url }) => url)).toEqual(["/yard"]);
  expect(there.components.securitySchemes["machine"]).toMatchObject({
    flows: { clientCredentials: { tokenUrl: "/yard/v1/oauth/token" } },
  });
  await harness.close();
});

test("says the bounds that this server has", async () => {
  const list = { max: 7, windowMs: 60_000 };
  const settings = { sizeMax: 1_000, limits: { list, token: { max: 0, windowMs: 1 } } };
  const harness = await openHarness({ settings });
  const { components, paths } = await documentOf(harness.app);
  expect(components.schemas["MachineCreate"]).toMatchObject({ properties: { size: { maximum: 1_000 } } });
  expect(paths["/v1/machine/docks/{dockId}/artifacts"]?.get).toMatchObject({
    "x-docyard-rate-limits": [{ max: 7, windowSeconds: 60, per: "machine client" }],
    responses: {
      429: {
        content: {
          "application/json": {
            examples: {
              resource_exhausted: { value: { message: "Rate limit exceeded: 7 list requests per minute" } },
            },
          },
        },
      },
    },
  });
  // Nobody is refused where there is no limit.
  expect(paths["/v1/oauth/token"]?.post?.responses).not.toHaveProperty("429");
  await harness.close();
});

test("is made once, and may be cached for a moment", async () => {
  const [first, second] = [await app.request("/openapi.json"), await app.request("/openapi.json")];
  expect(first.headers.get("content-type")).toBe("application/json; charset=utf-8");
  expect(first.headers.get("cache-control")).toBe("public, max-age=300");
  expect(await second.text()).toBe(await first.text());
});

test("operation ids are unique, tags are declared, references lead somewhere", () => {
  const ids = operations.map(([, , { operationId }]) => operationId);
  expect(new Set(ids).size).toBe(ids.length);
  const { tags } = document as unknown as { tags: { name: string }[] };
  const declared = new Set(tags.map(({ name }) => name));
  for (const [, , operation] of operations) {
    expect(operation.tags.every((tag) => declared.has(tag))).toBe(true);
    expect(operation.summary.length).toBeGreaterThan(0);
    expect(operation.description.length).toBeGreaterThan(0);
    for (const scheme of operation.security.flatMap((one) => Object.keys(one))) {
      expect(document.components.securitySchemes).toHaveProperty([scheme]);
    }
  }
  for (const [, ref] of JSON.stringify(document).matchAll(/"\$ref":"#\/([^"]+)"/g)) {
    expect(document).toHaveProperty(ref!.split("/"));
  }
});

test("holds no secret and no signature of this server", () => {
  const text = JSON.stringify(document);
  const secrets = [...text.matchAll(/\b(?:dys|dk)_live_[\w.-]+/g)].map(([secret]) => secret);
  expect(new Set(secrets)).toEqual(new Set(["dys_live_example"]));
  expect(text).not.toContain("docyard.test");
});

describe.each(named)("%s", (_id, { method, path, operation }) => {
  const examplesOf = (media: MediaType): readonly unknown[] => [
    ...("example" in media ? [media.example] : []),
    ...Object.values(media.examples ?? {}).map(({ value }) => value),
  ];

  test("every body has an example, and every example obeys its schema", () => {
    const contents = [
      ...Object.entries(operation.responses).map(
        ([status, { content }]) => [["responses", status], content ?? {}] as const,
      ),
      [["requestBody"], operation.requestBody?.content ?? {}] as const,
    ];
    for (const [where, content] of contents) {
      for (const [type, media] of Object.entries(content)) {
        const examples = examplesOf(media);
        if (examples.length === 0) throw new Error(`no example of ${where.join(" ")} ${type}`);
        const validate = schemas.at("paths", path, method, ...where, "content", type, "schema");
        for (const example of examples) {
          validate(example);
          expect([example, validate.errors]).toEqual([example, null]);
        }
      }
    }
  });

  test("every parameter is described and has an example that obeys its schema; those of the path are all there", () => {
    const parameters = operation.parameters ?? [];
    for (const [at, parameter] of parameters.entries()) {
      const validate = schemas.at("paths", path, method, "parameters", String(at), "schema");
      const { name, schema, example } = parameter;
      if (example === undefined) throw new Error(`no example of ${name}`);
      validate(example);
      expect([name, validate.errors]).toEqual([name, null]);
      // Generated clients look at each alternative by itself, and have ways of their own to write an object.
      for (const { type } of (schema?.["anyOf"] as JsonSchema[] | undefined) ?? [schema!]) {
        expect([name, type]).toEqual([name, expect.stringMatching(/^(string|integer|array)$/)]);
      }
    }
    const inPath = parameters.filter((parameter) => parameter.in === "path").map(({ name }) => name);
    expect(inPath).toEqual(Array.from(path.matchAll(/\{(\w+)\}/g), ([, name]) => name));
  });

  test("who is refused is told so in an envelope; limits say when to come back", () => {
    const statuses = Object.keys(operation.responses).map(Number);
    expect(statuses.some((status) => status < 400)).toBe(true);
    expect(statuses).toContain(500);
    const envelope = path.startsWith("/api/") ? "StudioError" : "MachineError";
    for (const [status, { content, headers }] of Object.entries(operation.responses)) {
      expect(headers).toHaveProperty(["X-Request-Id"]);
      if (status === "429") expect(headers).toHaveProperty(["Retry-After"]);
      const isChallenge = status === "401" || (status === "403" && statuses.includes(401));
      if (isChallenge) expect(headers).toHaveProperty(["WWW-Authenticate"]);
      const isEmpty = status === "412" || status === "416";
      if (Number(status) < 400 || isEmpty || operation.operationId === "getReadiness") continue;
      expect(content?.["application/json"]?.schema).toEqual({ $ref: `#/components/schemas/${envelope}` });
    }
    const isSecured = operation.security.some((scheme) => "machine" in scheme || "studioKey" in scheme);
    if (isSecured) expect(statuses).toContain(401);
    if ("x-docyard-rate-limits" in operation) expect(statuses).toContain(429);
  });
});

test("examples of refusals are in the server's own words", async () => {
  const clock = manualClock();
  const harness = await openHarness({ clock });
  const { dockId, rw, client } = await openWorld(harness);
  const own = await documentOf(harness.app);
  const examplesOf = (operationId: string): unknown[] =>
    Object.values(own.paths)
      .flatMap((item) => METHODS.map((method) => item[method]))
      .filter((operation) => operation?.operationId === operationId)
      .flatMap((operation) => Object.values(operation!.responses))
      .flatMap(({ content }) => Object.values(content?.["application/json"]?.examples ?? {}))
      .map(({ value }) => value);
  const nameless = (value: unknown): unknown =>
    JSON.parse(
      JSON.stringify(value)
        .replaceAll(/\b(art|upload)_\w+/g, "$1_1")
        .replaceAll(dockId, "dock_default"),
    );
  const isExample = async (operationId: string, asked: Promise<Response>): Promise<void> => {
    const refused = nameless(await (await asked).json());
    expect(examplesOf(operationId).map(nameless)).toContainEqual(refused);
  };
  const ask = (token: string, method: string, path: string, body?: object): Promise<Response> =>
    harness.fetch(rw.path + path, {
      method,
      headers: { Authorization: `Bearer ${token}` },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });

  await isExample("getMachineArtifact", ask(rw.token, "GET", "/art_unknown"));
  await isExample("deleteMachineArtifact", ask(rw.token, "DELETE", "/art_unknown"));
  await rw.upload(new Uint8Array(3));
  const { data } = (await rw.list()).body;
  const { uploadId, uploadUrl } = (await rw.create({ filename: "late.pdf" })).body;
  const complete = (token: string): Promise<Response> => ask(token, "POST", "/upload/complete", { uploadId });
  await isExample("completeMachineUpload", complete(rw.token));
  clock.advance(harness.docyard.settings.urlTtlMs);
  await isExample("downloadBytes", harness.fetch(data[0]!.downloadUrl));
  await isExample("uploadBytes", harness.fetch(uploadUrl, { method: "PUT", body: "late" }));
  clock.advance(harness.docyard.settings.uploadWindowMs);
  await harness.docyard.sweep();
  await isExample("completeMachineUpload", complete(await requestToken(harness, client)));
  await harness.close();
});

test("examples of headers obey their schemas", () => {
  for (const [name, { example }] of Object.entries(document.components.headers)) {
    const validate = schemas.at("components", "headers", name, "schema");
    expect([name, validate(example)]).toEqual([name, true]);
  }
});

test("extensions are marked: all that the vendors' contracts do not have", () => {
  const own = operations.filter(([, , operation]) => operation["x-docyard-extension"] !== true);
  expect(own.map(([, , { operationId }]) => operationId).toSorted()).toEqual([
    "completeMachineUpload",
    "createMachineArtifact",
    "createStudioArtifact",
    "getStudioArtifact",
    "issueToken",
    "listMachineArtifacts",
    "presignStudioUpload",
  ]);
});

describe("an answer that the document does not have is a fault that names the operation", () => {
  const contract = contractOf(document);
  const headers: Readonly<Record<string, string>> = {
    "x-request-id": "r",
    "content-type": "application/json; charset=utf-8",
  };
  const judged = (
    [method, path, status]: readonly [string, string, number],
    body: string | null,
    more: Readonly<Record<string, string>> = {},
  ): string | null =>
    contract.fault(
      { method, path, status, header: (name) => ({ ...headers, ...more })[name.toLowerCase()] ?? null },
      body,
    );
  const health = JSON.stringify({ status: "ok", version: "1" });

  test("none where it has it", () => {
    expect(judged(["GET", "/v1/healthz", 200], health)).toBeNull();
    expect(judged(["HEAD", "/v1/healthz", 200], null)).toBeNull();
    const missing = { statusCode: 404, message: "No such route", error: "Not Found" };
    expect(judged(["GET", "/nowhere", 404], JSON.stringify(missing))).toBeNull();
    const refused = { error: "no", message: "no", status: 405 };
    expect(judged(["PUT", "/api/v1/artifacts", 405], JSON.stringify(refused), { allow: "GET" })).toBeNull();
  });

  test.each<readonly [string, string | null, RegExp]>([
    ["a status", judged(["GET", "/v1/healthz", 418], "{}"), /^getHealth .*418, which is not documented/],
    [
      "a field too many",
      judged(["GET", "/v1/healthz", 200], JSON.stringify({ status: "ok", version: "1", up: 1 })),
      /^getHealth .*additional properties/,
    ],
    ["a field too few", judged(["GET", "/v1/healthz", 200], '{"status":"ok"}'), /^getHealth .*version/],
    [
      "another type",
      judged(["GET", "/v1/healthz", 200], health, { "content-type": "text/html" }),
      /^getHealth .*as text\/html rather than application\/json/,
    ],
    [
      "no Retry-After",
      judged(["GET", "/api/v1/artifacts", 429], '{"error":"x","message":"x","status":429}'),
      /^listStudioArtifacts .*429 without Retry-After/,
    ],
    [
      "a body where there is none",
      judged(["DELETE", "/api/v1/artifacts/x", 204], "surprise"),
      /^deleteStudioArtifact .*with a body/,
    ],
    [
      "the other face's envelope",
      judged(["GET", "/api/v1/artifacts/x", 404], '{"statusCode":404,"message":"x","error":"x"}'),
      /^getStudioArtifact .*404 with a body/,
    ],
    [
      "an unknown path that answers",
      judged(["GET", "/nowhere", 200], "{}"),
      /^GET \/nowhere .*rather than 404/,
    ],
    [
      "an unknown method that answers",
      judged(["PATCH", "/v1/healthz", 200], "{}"),
      /^PATCH \/v1\/healthz .*rather than 405/,
    ],
    [
      "a 405 without Allow",
      judged(["PATCH", "/v1/healthz", 405], '{"statusCode":405,"message":"x","error":"x"}'),
      /without Allow/,
    ],
  ])("%s", (_name, fault, words) => {
    expect(fault).toMatch(words);
  });

  test("a request that is answered so fails, in process", async () => {
    const harness = await openHarness();
    const odd = await openHarness({ app: { checks: { part: async () => {} }, version: 1 as never } });
    await expect(odd.fetch("/v1/healthz")).rejects.toThrow(/^getHealth \(GET \/v1\/healthz\) answered 200/);
    expect(odd.violations).toHaveLength(1);
    await Promise.all([harness.close(), odd.close()]);
  });
});
