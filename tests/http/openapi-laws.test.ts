/**
 * What the document says of requests is what the server does: bodies made from a schema are accepted, bodies that break
 * it are refused in the envelope, and every parameter is one that is read.
 */

import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ApiDocument, JsonSchema, Method, Parameter, Schemas } from "./contract.ts";
import { documentOf, schemasOf } from "./contract.ts";
import type { StudioHarness } from "./studio-harness.ts";
import { openStudioHarness, UNLIMITED } from "./studio-harness.ts";
import type { StudioClient } from "./studio-target.ts";
import { openStudio } from "./studio-target.ts";
import type { World } from "./target.ts";
import { answer, openWorld } from "./target.ts";

const RUNS = process.env["DOCYARD_TEST_FULL"] === "1" ? 2_000 : 60;

let target: StudioHarness;
let world: World;
let studio: StudioClient;
let document: ApiDocument;
let schemas: Schemas;

beforeAll(async () => {
  target = await openStudioHarness({
    settings: {
      limits: { ...UNLIMITED.limits, list: { max: 0, windowMs: 1 }, token: { max: 0, windowMs: 1 } },
    },
  });
  world = await openWorld(target);
  studio = await openStudio(target);
  await target.attachCredentials(studio.key.id, "credentials of some bucket");
  document = await documentOf(target.app);
  schemas = schemasOf(document);
});
afterAll(() => target.close());

type Properties = Readonly<Record<string, JsonSchema>>;

function resolved(schema: JsonSchema): JsonSchema {
  const ref = schema["$ref"];
  return typeof ref === "string" ? document.components.schemas[ref.split("/").at(-1)!]! : schema;
}

/** Values that a schema describes, as far as this document's schemas go. What a pattern refuses is filtered by caller. */
function valueOf(name: string, schema: JsonSchema): fc.Arbitrary<unknown> {
  const {
    type,
    enum: words,
    items,
  } = schema as {
    readonly type?: string | readonly string[];
    readonly enum?: readonly unknown[];
    readonly items?: JsonSchema;
  };
  if (words !== undefined) return fc.constantFrom(...words);
  const { minimum = 0, maximum = Number.MAX_SAFE_INTEGER } = schema as { minimum?: number; maximum?: number };
  const kinds: Readonly<Record<string, () => fc.Arbitrary<unknown>>> = {
    null: () => fc.constant(null),
    string: () => textOf(name, schema["pattern"] as string | undefined),
    integer: () => fc.integer({ min: minimum, max: maximum }),
    number: () => fc.double({ min: minimum, max: maximum, noNaN: true }),
    array: () => fc.array(objectOf(resolved(items!)), { minLength: 1, maxLength: 4 }),
    object: () => fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 4 }), { maxKeys: 5 }),
  };
  return fc.oneof(...[type ?? []].flat().map((kind) => kinds[kind]!()));
}

/** Patterns that cannot be turned around have words of their own. */
function textOf(name: string, pattern: string | undefined): fc.Arbitrary<string> {
  if (name === "url") return fc.webUrl({ withQueryParameters: true });
  if (name === "filename" || name === "name" || pattern === undefined) {
    return fc.oneof(
      fc.string({ unit: "grapheme", maxLength: 60 }),
      fc.string({ unit: "binary", maxLength: 20 }),
    );
  }
  return fc.stringMatching(new RegExp(pattern), { maxLength: 200 });
}

/** Objects with all that is required and some of the rest; of alternatives, one. */
function objectOf(schema: JsonSchema): fc.Arbitrary<Readonly<Record<string, unknown>>> {
  const {
    properties,
    required = [],
    oneOf = [{}],
  } = schema as {
    readonly properties: Properties;
    readonly required?: readonly string[];
    readonly oneOf?: readonly { readonly properties?: Properties; readonly required?: readonly string[] }[];
  };
  return fc.oneof(
    ...oneOf.map((branch) => {
      const fields = Object.entries(properties).map(([name, field]) => {
        const narrowed = { ...field, ...branch.properties?.[name] };
        return [name, valueOf(name, narrowed)] as const;
      });
      return fc.record(Object.fromEntries(fields), {
        requiredKeys: [...required, ...(branch.required ?? [])] as never[],
      });
    }),
  ) as fc.Arbitrary<Readonly<Record<string, unknown>>>;
}

interface Send {
  readonly path: string;
  readonly post: (body: unknown) => Promise<{ readonly status: number; readonly body: unknown }>;
}

const machine = (): Send => ({
  path: "/v1/machine/docks/{dockId}/artifacts",
  post: (body) => world.w.create(body as object),
});
const studioFace = (): Send => ({
  path: "/api/v1/artifacts/create",
  post: (body) => studio.create(body as object),
});
const token = (): Send => ({
  path: "/v1/oauth/token",
  post: (body) => answer(target.fetch("/v1/oauth/token", { method: "POST", body: JSON.stringify(body) })),
});

function bodySchema(path: string): {
  readonly schema: JsonSchema;
  readonly isValid: (body: unknown) => boolean;
  readonly isAllowed: (body: unknown) => boolean;
} {
  const where = ["paths", path, "post", "requestBody", "content", "application/json", "schema"] as const;
  const schema = resolved(document.paths[path]!.post!.requestBody!.content["application/json"]!.schema);
  const validate = schemas.at(...where);
  return {
    schema,
    isValid: (body) => validate(body),
    isAllowed: (body) => validate(body) && isWithinBytes(schema, body),
  };
}

/** Bounds that JSON Schema has no words for, and the document's own extensions say. */
function isWithinBytes({ properties }: JsonSchema, body: unknown): boolean {
  return Object.entries(body as object).every(([name, value]) => {
    const max = (properties as Properties)[name]?.["x-docyard-max-bytes"] as number | undefined;
    if (max === undefined || value == null) return true;
    const text = typeof value === "string" ? value : JSON.stringify(value);
    return Buffer.byteLength(text) <= max;
  });
}

describe.each([
  ["a machine create", machine],
  ["a Studio create", studioFace],
] as const)("%s", (_name, face) => {
  test("that the schema allows is accepted", async () => {
    const { path, post } = face();
    const { schema, isAllowed } = bodySchema(path);
    await fc.assert(
      fc.asyncProperty(objectOf(schema).filter(isAllowed), async (body) => {
        const { status, body: said } = await post(body);
        expect([said, status]).toEqual([said, 201]);
      }),
      { numRuns: RUNS },
    );
  });

  test("with fields that the schema does not have is accepted without them", async () => {
    const { path, post } = face();
    const example = document.paths[path]!.post!.requestBody!.content["application/json"]!.example as object;
    expect((await post({ ...example, unheardOf: [1, { a: null }] })).status).toBe(201);
  });
});

describe.each([
  ["a machine create", machine],
  ["a Studio create", studioFace],
  ["a request for a token", token],
] as const)("%s", (_name, face) => {
  test("that the schema refuses is answered 400, in the envelope", async () => {
    const { path, post } = face();
    const { schema, isValid } = bodySchema(path);
    const fields = Object.keys(schema["properties"] as Properties);
    const example = document.paths[path]!.post!.requestBody!.content["application/json"]!.example as object;
    const odd = fc.oneof(
      fc.jsonValue({ maxDepth: 2 }),
      fc.string(),
      fc.double({ noDefaultInfinity: true, noNaN: true }),
    );
    const spoilt = fc
      .record({ name: fc.constantFrom(...fields), value: fc.option(odd, { nil: undefined }) })
      .map(({ name, value }) => ({ ...example, [name]: value }))
      .map((body) => JSON.parse(JSON.stringify(body)) as Readonly<Record<string, unknown>>)
      .filter((body) => !isValid(body));
    const { maximum = Infinity } = ((schema["properties"] as Properties)["size"] ?? {}) as {
      maximum?: number;
    };
    await fc.assert(
      fc.asyncProperty(spoilt, async (body) => {
        // The one bound that has a status of its own (contract 17).
        const isTooLarge = Number.isInteger(body["size"]) && (body["size"] as number) > maximum;
        const { status, body: said } = await post(body);
        expect([said, status]).toEqual([said, isTooLarge ? 409 : 400]);
      }),
      { numRuns: RUNS },
    );
  });

  test("that is no object at all is answered 400, in the envelope", async () => {
    for (const body of [null, 1, "x", [], true]) expect((await face().post(body)).status).toBe(400);
  });
});

test("the example of each request for a token is one, but for its client", async () => {
  const { content } = document.paths["/v1/oauth/token"]!.post!.requestBody!;
  for (const [type, { example }] of Object.entries(content)) {
    const { clientId, clientSecret } = world.client;
    const fields = {
      ...(example as Record<string, string>),
      client_id: clientId,
      client_secret: clientSecret,
    };
    const body =
      type === "application/json" ? JSON.stringify(fields) : new URLSearchParams(fields).toString();
    const response = await target.fetch("/v1/oauth/token", {
      method: "POST",
      headers: { "Content-Type": type },
      body,
    });
    expect(response.status).toBe(200);
  }
});

describe("parameters", () => {
  const LISTS = ["/v1/machine/docks/{dockId}/artifacts", "/api/v1/artifacts"] as const;
  const PRESIGN = "/api/v1/artifacts/create";

  const parametersOf = (path: string, method: Method): readonly Parameter[] =>
    (document.paths[path]?.[method]?.parameters ?? []).filter((parameter) => parameter.in === "query");
  const textOfExample = ({ example, name }: Parameter): string => {
    if (Array.isArray(example)) return example.join(",");
    if (example === undefined) throw new Error(`no example of ${name}`);
    return typeof example === "string" ? example : JSON.stringify(example);
  };
  const get = (path: string, query: URLSearchParams): Promise<Response> =>
    path.startsWith("/api/")
      ? studio.send(`${path}?${query.toString()}`)
      : target.fetch(`${world.r.path}?${query.toString()}`, {
          headers: { Authorization: `Bearer ${world.r.token}` },
        });

  test.each([...LISTS, PRESIGN])("%s takes the example of each, and none of them twice", async (path) => {
    const parameters = parametersOf(path, "get");
    expect(parameters.length).toBeGreaterThan(0);
    for (const parameter of parameters) {
      const { name } = parameter;
      const value = textOfExample(parameter);
      const once = await get(path, new URLSearchParams([[name, value]]));
      expect([name, once.status]).toEqual([name, 200]);
      const twice = await get(
        path,
        new URLSearchParams([
          [name, value],
          [name, value],
        ]),
      );
      expect([name, twice.status]).toEqual([name, 400]);
      expect(await twice.text()).toContain(`${name} must be given once`);
    }
  });

  test.each(LISTS)("%s refuses what the bounds of one exclude", async (path) => {
    for (const { name, schema } of parametersOf(path, "get")) {
      const {
        minimum,
        maxLength,
        enum: words,
        items,
      } = (schema ?? {}) as {
        readonly minimum?: number;
        readonly maxLength?: number;
        readonly enum?: readonly string[];
        readonly items?: { readonly enum: readonly string[] };
      };
      const excluded = [
        ...(minimum === undefined ? [] : [String(minimum - 1), "1.5", "x", ""]),
        ...(maxLength === undefined ? [] : ["x".repeat(maxLength + 1), "\0"]),
        ...(words === undefined && items === undefined ? [] : ["unheard-of", ""]),
        ...(name.startsWith("created") ? ["yesterday", "2026-13-01", ""] : []),
        ...(name === "metadata" ? ["[]", "{", ""] : []),
        ...(name === "cursor" ? ["%", "no cursor"] : []),
      ];
      if (excluded.length === 0) throw new Error(`${name} has no bounds`);
      for (const value of excluded) {
        const { status } = await get(path, new URLSearchParams([[name, value]]));
        expect([name, value, status]).toEqual([name, value, 400]);
      }
    }
  });
});
