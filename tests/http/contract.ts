/**
 * The published document as a judge: every answer that an app gives is held against it. Which requests are sent is the
 * suites' affair; one that is answered in a way the document does not have fails, and the failure names the operation.
 */

import { memoryBlobs } from "@docyard/adapters/blob/memory";
import { memoryLimit } from "@docyard/adapters/limit/memory";
import { memoryQueue } from "@docyard/adapters/queue/memory";
import { memoryStore } from "@docyard/adapters/store/memory";
import { createDocyard, createProvisioning } from "@docyard/core";
import type { App, HostBindings } from "@docyard/server";
import { createApp } from "@docyard/server";
import type { ValidateFunction } from "ajv";
import { Ajv2020 } from "ajv/dist/2020.js";
import ajvFormats from "ajv-formats";

export type Method = "get" | "put" | "post" | "delete" | "head" | "options";
export const METHODS: readonly Method[] = ["get", "put", "post", "delete", "head", "options"];

export interface JsonSchema {
  readonly [keyword: string]: unknown;
}
export interface MediaType {
  readonly schema: JsonSchema;
  readonly example?: unknown;
  readonly examples?: Readonly<Record<string, { readonly value: unknown }>>;
}
export interface Header {
  readonly $ref: string;
}
export interface Answer {
  readonly description: string;
  readonly headers?: Readonly<Record<string, Header>>;
  readonly content?: Readonly<Record<string, MediaType>>;
}
export interface Parameter {
  readonly name: string;
  readonly in: "path" | "query" | "header";
  readonly required: boolean;
  readonly schema?: JsonSchema;
  readonly example?: unknown;
}
export interface Operation {
  readonly operationId: string;
  readonly summary: string;
  readonly description: string;
  readonly tags: readonly string[];
  readonly security: readonly Readonly<Record<string, readonly string[]>>[];
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly content: Readonly<Record<string, MediaType>> };
  readonly responses: Readonly<Record<string, Answer>>;
  readonly "x-docyard-extension"?: boolean;
}
export interface ApiDocument {
  readonly openapi: string;
  readonly paths: Readonly<Record<string, Partial<Readonly<Record<Method, Operation>>>>>;
  readonly components: {
    readonly schemas: Readonly<Record<string, JsonSchema>>;
    readonly headers: Readonly<
      Record<string, { readonly schema: JsonSchema; readonly required: boolean; readonly example: unknown }>
    >;
    readonly securitySchemes: Readonly<Record<string, unknown>>;
  };
}

/** Everything that can be served is: bytes, and the script of the page. */
export async function documentOf(app: App): Promise<ApiDocument> {
  const response = await app.request("http://docyard.test/openapi.json");
  return (await response.json()) as ApiDocument;
}

/** An app for its document alone. */
export function fullApp(): App {
  const publicUrl = (): string => "http://docyard.test";
  const store = memoryStore();
  const blobs = memoryBlobs({ baseUrl: publicUrl, secret: new Uint8Array(32) });
  return createApp({
    docyard: createDocyard({ store, blobs, queue: memoryQueue(), limit: memoryLimit() }),
    provisioning: createProvisioning(store.accounts),
    blobs,
    version: "0.0.0-test",
    publicUrl,
    docsAsset: async () => new Uint8Array(),
  });
}

/** Schemas by where they stand in the document. */
export interface Schemas {
  /** @param pointer from the root, each part as it is */
  at(...pointer: readonly string[]): ValidateFunction;
}

export function schemasOf(document: ApiDocument): Schemas {
  // Not strict: OpenAPI's and our own keywords are no mistakes.
  const ajv = new Ajv2020({ strict: false, allErrors: true });
  ajvFormats.default(ajv);
  ajv.addSchema(document, "document");
  return {
    at(...pointer) {
      const path = pointer.map((part) =>
        encodeURIComponent(part.replaceAll("~", "~0").replaceAll("/", "~1")),
      );
      const found = ajv.getSchema(`document#/${path.join("/")}`);
      if (found === undefined) throw new Error(`the document has no schema at ${pointer.join(" > ")}`);
      return found as ValidateFunction;
    },
  };
}

/** What came back for a request, as far as it was looked at. */
interface Observed {
  readonly method: string;
  readonly path: string;
  readonly status: number;
  readonly header: (name: string) => string | null;
}

interface Route {
  readonly template: string;
  readonly pattern: RegExp;
  readonly operations: Partial<Readonly<Record<Method, Operation>>>;
}

/** nginx's number for "the client went away": whoever sent the request does not see it. */
const CLIENT_CLOSED = 499;
const PATH_OF_BYTES = "/v1/blobs/{key}";

export interface Contract {
  readonly document: ApiDocument;
  /** Whether the body of this answer is anything that the document describes more closely than as bytes. */
  readsBody(observed: Observed): boolean;
  /** What is wrong with it, naming the operation, or null. */
  fault(observed: Observed, body: string | null): string | null;
}

export function contractOf(document: ApiDocument): Contract {
  const schemas = schemasOf(document);
  const routes = Object.entries(document.paths)
    .map(([template, operations]): Route => ({ template, operations, pattern: patternOf(template) }))
    // A literal wins over a parameter.
    .toSorted((a, b) => a.template.split("{").length - b.template.split("{").length);

  const find = ({ method, path }: Observed) => {
    const route = routes.find(({ pattern }) => pattern.test(path));
    const lower = method.toLowerCase() as Method;
    const known = route === undefined || !METHODS.includes(lower) ? undefined : lower;
    const name = known === "head" && route?.operations.head === undefined ? "get" : known;
    const operation = name === undefined ? undefined : route?.operations[name];
    return { route, name, operation };
  };

  const judge = (
    { status, header }: Observed,
    body: string | null,
    at: { readonly template: string; readonly name: Method; readonly operation: Operation },
  ): string | null => {
    const answer = at.operation.responses[status];
    if (answer === undefined) return `answered ${status}, which is not documented (${shown(body)})`;
    for (const [name, { $ref }] of Object.entries(answer.headers ?? {})) {
      const key = $ref.split("/").at(-1)!;
      const value = header(name);
      const { required, schema } = document.components.headers[key]!;
      if (value === null) {
        if (required) return `answered ${status} without ${name}`;
      } else {
        const validate = schemas.at("components", "headers", key, "schema");
        if (!validate(schema["type"] === "integer" ? Number(value) : value)) {
          return `answered ${status} with ${name}: ${value}, which ${said(validate)}`;
        }
      }
    }
    return (
      bodyFault(answer, status, header("content-type"), body, (type) =>
        schemas.at("paths", at.template, at.name, "responses", String(status), "content", type, "schema"),
      ) ?? null
    );
  };

  /** Where the document names no operation: unknown paths and methods, in the envelope of the path's face. */
  const judgeRefusal = (
    { method, path, status, header }: Observed,
    body: string | null,
    route: Route | undefined,
  ): string | null => {
    const expected = route === undefined ? 404 : route.template === PATH_OF_BYTES ? 403 : 405;
    if (status !== expected) return `answered ${status} rather than ${expected} (${shown(body)})`;
    if (status === 405 && header("allow") === null) return "answered 405 without Allow";
    if (method === "HEAD" || body === null) return null;
    const envelope = path.startsWith("/api/") ? "StudioError" : "MachineError";
    const validate = schemas.at("components", "schemas", envelope);
    return validate(JSON.parse(body)) ? null : `answered ${status} with a body that ${said(validate)}`;
  };

  return {
    document,
    readsBody(observed) {
      const content = find(observed).operation?.responses[observed.status]?.content;
      return content === undefined || content["*/*"] === undefined;
    },
    fault(observed, body) {
      if (observed.status === CLIENT_CLOSED) return null;
      const { route, name, operation } = find(observed);
      if (route === undefined || name === undefined || operation === undefined) {
        const found = judgeRefusal(observed, body, route);
        return found === null ? null : `${observed.method} ${observed.path} ${found}`;
      }
      const found = judge(observed, observed.method === "HEAD" ? null : body, {
        template: route.template,
        name,
        operation,
      });
      return found === null
        ? null
        : `${operation.operationId} (${observed.method} ${route.template}) ${found}`;
    },
  };
}

function bodyFault(
  { content }: Answer,
  status: number,
  contentType: string | null,
  body: string | null,
  schemaOf: (type: string) => ValidateFunction,
): string | null {
  if (body === null) return null;
  if (content === undefined) {
    return body === "" ? null : `answered ${status} with a body, which is not documented (${shown(body)})`;
  }
  const type = contentType?.split(";", 1)[0]!.trim() ?? "none";
  if (content[type] === undefined) {
    return `answered ${status} as ${type} rather than ${Object.keys(content).join(" or ")}`;
  }
  const validate = schemaOf(type);
  return validate(type === "application/json" ? JSON.parse(body) : body)
    ? null
    : `answered ${status} with a body that ${said(validate)} (${shown(body)})`;
}

function patternOf(template: string): RegExp {
  const parts = template.split(/(\{\w+\})/).map((part) => {
    if (part === "{key}") return ".*";
    return part.startsWith("{") ? "[^/]+" : part.replaceAll(".", "\\.");
  });
  return new RegExp(`^${parts.join("")}$`, "s");
}

function said({ errors }: ValidateFunction): string {
  const faults = errors ?? [];
  return faults.map(({ instancePath, message }) => `${instancePath || "/"} ${message ?? ""}`).join("; ");
}

function shown(body: string | null): string {
  return body === null ? "no body" : body.slice(0, 300);
}

let published: Promise<Contract> | undefined;

/** The contract of this server, made once: what answers look like depends on no setting. */
export function publishedContract(): Promise<Contract> {
  return (published ??= documentOf(fullApp()).then(contractOf));
}

/**
 * Holds every answer of the app against its document from now on. A request that is answered in another way rejects;
 * behind a host that turns this into a 500, `violations` has the reason.
 */
export function held(app: App): { readonly violations: readonly string[] } {
  const violations: string[] = [];
  const answer = app.fetch;
  app.fetch = async (request, bindings: HostBindings | undefined, context) => {
    const response = await answer(request, bindings ?? {}, context);
    const url = URL.parse(request.url);
    if (url === null) return response;
    const contract = await publishedContract();
    const sent = alreadySent(response, bindings);
    if (sent === "nothing") return response;
    const observed: Observed = {
      method: request.method,
      path: url.pathname,
      status: sent?.status ?? response.status,
      header: sent?.header ?? ((name) => response.headers.get(name)),
    };
    const isRead = sent === null && hasBody(response) && contract.readsBody(observed);
    const body = isRead ? await response.text() : null;
    const fault = contract.fault(observed, body);
    if (fault !== null) {
      violations.push(fault);
      throw new Error(fault);
    }
    // A new one: a host that has a faster way with fresh responses is tested on that way.
    return body === null
      ? response
      : new Response(body, { status: response.status, headers: Object.fromEntries(response.headers) });
  };
  return { violations };
}

const BODILESS: ReadonlySet<number> = new Set([204, 304]);

function hasBody(response: Response): boolean {
  return !BODILESS.has(response.status) && response.body !== null;
}

interface Outgoing {
  readonly headersSent: boolean;
  readonly statusCode: number;
  getHeader(name: string): string | number | readonly string[] | undefined;
}

/** What a handler wrote to Node's own response; null where it wrote nothing itself. */
function alreadySent(
  response: Response,
  bindings: HostBindings | undefined,
): Pick<Observed, "status" | "header"> | "nothing" | null {
  if (!response.headers.has("x-hono-already-sent")) return null;
  const outgoing = bindings?.outgoing as Outgoing;
  if (!outgoing.headersSent) return "nothing";
  return { status: outgoing.statusCode, header: (name) => outgoing.getHeader(name)?.toString() ?? null };
}
