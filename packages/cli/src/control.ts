/**
 * The server as a test double for other languages: `--seed` puts the production core and app on memory adapters whose
 * ids and secrets follow from the seed, and adds routes that turn its clock and break its parts. Nothing configured is
 * opened here, so there is no way to these routes from a store that lasts.
 */

import { setTimeout as sleep } from "node:timers/promises";
import type {
  Fault,
  Faults,
  HostBindings,
  PortCall,
  SeedArtifact,
  TestDouble,
} from "@docyard/adapters/testing";
import { Crashed, PORT_CALLS, testDouble } from "@docyard/adapters/testing";
import type { IngestPorts, JsonObject, SettingsInput } from "@docyard/core";
import { isDocyardError, isJsonObject, parseJson } from "@docyard/core";
import type { AppOptions } from "@docyard/server";
import { createApp, refusal } from "@docyard/server";
import { firstRun, type FirstRunDocument } from "./documents.ts";
import { reasonOf } from "./failure.ts";
import type { Fetch } from "./listen.ts";
import type { Logger } from "./log.ts";
import { parseDuration } from "./measure.ts";
import { VERSION } from "./version.ts";

/** All control routes are below it. */
const CONTROL_PATH = "/v1/test/";
/** Milliseconds between two looks at what has become due on the running clock. */
const TICK_MS = 20;
/** Bytes of a control request: room for the files of a test. */
const BODY_BYTES_MAX = 16 * 1024 ** 2;
/** Artifacts that one request adds. */
const ARTIFACTS_MAX = 100_000;
/** A century: a clock that is turned further is a mistake in the unit. */
const ADVANCE_MS_MAX = 100 * 365 * 86_400_000;

export interface DoubleServerOptions {
  readonly seed: string;
  readonly url: string;
  readonly settings: SettingsInput;
  readonly ingest: Pick<IngestPorts, "fetchUrl" | "s3" | "media">;
  readonly app: Pick<
    AppOptions,
    "log" | "tokenTtlMs" | "clientAddress" | "docsAsset" | "certificateExpiresAt"
  >;
  readonly log: Pick<Logger, "info" | "warn">;
}

export interface DoubleServer {
  readonly fetch: Fetch;
  /** The same after each start with this seed. */
  readonly first: FirstRunDocument;
  /** Lets the background work go on with the real clock, until it is stopped. */
  run(): { stop(): Promise<void> };
  close(): Promise<void>;
}

export async function openDouble(options: DoubleServerOptions): Promise<DoubleServer> {
  const { seed, url, settings, ingest, log } = options;
  // What fetches and reads media outlives a reset: it holds connections and threads, and nothing of any artifact.
  const shared = Object.fromEntries(
    Object.entries(ingest).map(([name, port]: [string, object]) => [
      name,
      { ...port, close: async () => {} },
    ]),
  ) as unknown as IngestPorts;
  const open = (): Promise<TestDouble> =>
    testDouble((parts) => createApp({ ...parts, ...options.app }), {
      seed,
      start: Date.now,
      url,
      settings,
      ingest: shared,
      version: VERSION,
      onError: (error) => log.warn({ reason: reasonOf(error) }, "background work failed"),
    });
  let double = await open();

  const control: Control = {
    get double() {
      return double;
    },
    async reset() {
      const before = double;
      double = await open();
      await before.close();
      return firstRunOf(double);
    },
  };

  return {
    first: await firstRunOf(double),
    async fetch(request, bindings) {
      const path = new URL(request.url).pathname;
      if (path.startsWith(CONTROL_PATH)) {
        const response = await answer(control, path.slice(CONTROL_PATH.length), request);
        log.info(
          { method: request.method, control: path.slice(0, 80), status: response.status },
          "test control",
        );
        return response;
      }
      return asAProcess(double, request, bindings);
    },
    run() {
      const stopping = new AbortController();
      const running = tick(control, stopping.signal, log);
      return {
        async stop() {
          stopping.abort();
          await running;
        },
      };
    },
    close: () => double.close(),
  };
}

/** What one who comes first is told, in the shape of a real first start. */
async function firstRunOf({ store, dock, client, key }: TestDouble): Promise<FirstRunDocument> {
  const organization = await store.accounts.find("organization", { id: dock.organizationId });
  if (organization === null) throw new Error("the double lost its organization");
  const { clientSecret } = client;
  const { apiKey } = key;
  return firstRun({ organization, dock, client, clientSecret, key, apiKey });
}

/** A crash is what clients see of one: a connection that ends without an answer, and a server that is back soon. */
async function asAProcess(double: TestDouble, request: Request, bindings: HostBindings): Promise<Response> {
  if (double.isCrashed) await double.restart();
  try {
    return await double.handle(request, bindings);
  } catch (error) {
    if (!(error instanceof Crashed)) throw error;
    const { outgoing } = bindings;
    if (typeof outgoing === "object" && outgoing !== null && "destroy" in outgoing) {
      Reflect.apply(outgoing.destroy as () => void, outgoing, []);
    }
    // The host's own word for "somebody else has answered".
    return new Response(null, { headers: { "x-hono-already-sent": "true" } });
  }
}

async function tick(control: Control, signal: AbortSignal, log: Pick<Logger, "warn">): Promise<void> {
  while (!signal.aborted) {
    const { double } = control;
    try {
      if (double.isCrashed) await double.restart();
      await double.advance(0);
    } catch (error) {
      // A reset may have closed it meanwhile.
      if (double === control.double) log.warn({ reason: reasonOf(error) }, "background work failed");
    }
    await sleep(TICK_MS, undefined, { signal }).catch(() => {});
  }
}

interface Control {
  readonly double: TestDouble;
  /** Begins anew, as after the start. */
  reset(): Promise<FirstRunDocument>;
}

/** A fault of the request, told in one sentence. */
class BadControl extends Error {
  override readonly name = "BadControl";
}

type Handler = (control: Control, body: JsonObject) => Promise<object> | object;

/** Each route by its method. */
const ROUTES: Readonly<Record<string, Readonly<Record<string, Handler>>>> = {
  clock: { GET: ({ double }) => clockOf(double) },
  advance: {
    async POST({ double }, body) {
      await double.advance(spanOf(body));
      return clockOf(double);
    },
  },
  faults: {
    GET: ({ double }) => ({ faults: double.faults.list().map(faultJson) }),
    POST: ({ double }, body) => faultJson(addFault(double.faults, body)),
    DELETE({ double }) {
      double.faults.clear();
      return { faults: [] };
    },
  },
  "power-cut": {
    async POST({ double }) {
      const dropped = double.faults.dropUnsynced();
      await double.restart();
      return { dropped };
    },
  },
  restart: {
    async POST({ double }) {
      await double.restart();
      return clockOf(double);
    },
  },
  reset: { POST: (control) => control.reset() },
  seed: {
    async POST({ double }, { artifacts }) {
      const made = await double.seed({ artifacts: seedOf(artifacts) });
      return {
        artifacts: made.map(({ id, filename, size, digest }) => ({
          id,
          filename,
          size,
          hash: `sha256:${digest}`,
        })),
      };
    },
  },
};

/** The paths of the control routes with their methods, for whoever lists them. */
export const CONTROL_ROUTES: readonly (readonly [method: string, path: string])[] = Object.entries(
  ROUTES,
).flatMap(([name, methods]) => Object.keys(methods).map((method) => [method, CONTROL_PATH + name] as const));

async function answer(control: Control, name: string, request: Request): Promise<Response> {
  const refuse = (
    status: number,
    message: string,
    extra: Readonly<Record<string, string>> = {},
  ): Response => {
    const { headers, body } = refusal(status, message, CONTROL_PATH);
    return new Response(body, { status, headers: { ...headers, ...extra } });
  };
  const methods = Object.hasOwn(ROUTES, name) ? ROUTES[name] : undefined;
  if (methods === undefined) return refuse(404, "No such route");
  const handler = Object.hasOwn(methods, request.method) ? methods[request.method] : undefined;
  if (handler === undefined) {
    const allow = Object.keys(methods).join(", ");
    return refuse(405, `Method not allowed here: use ${allow}`, { Allow: allow });
  }
  try {
    return Response.json(await handler(control, await bodyOf(request)), {
      headers: { "Cache-Control": "no-store" },
    });
  } catch (error) {
    const isTheirs = error instanceof BadControl || error instanceof TypeError || isDocyardError(error);
    if (isTheirs) return refuse(400, reasonOf(error));
    throw error;
  }
}

/** An object, or nothing for `{}`. */
async function bodyOf(request: Request): Promise<JsonObject> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of request.body ?? []) {
    size += chunk.byteLength;
    if (size > BODY_BYTES_MAX) throw new BadControl(`The body must be at most ${BODY_BYTES_MAX} bytes`);
    chunks.push(chunk);
  }
  const text = Buffer.concat(chunks).toString("utf8");
  if (text.trim() === "") return {};
  let json: unknown;
  try {
    json = parseJson(text);
  } catch {
    throw new BadControl("The body is not valid JSON");
  }
  if (!isJsonObject(json)) throw new BadControl("The body must be a JSON object");
  return json;
}

function clockOf(double: TestDouble): object {
  return { now: new Date(double.now()).toISOString() };
}

/** `{"ms": 90000}` or `{"time": "1h30m"}`. */
function spanOf({ ms, time }: JsonObject): number {
  const span = typeof time === "string" ? parseDuration(time) : ms;
  if (typeof span !== "number" || !Number.isSafeInteger(span) || span < 0 || span > ADVANCE_MS_MAX) {
    throw new BadControl('Say how long, as {"ms": 90000} or {"time": "1h30m"}, and at most a century');
  }
  return span;
}

function isPortCall(value: unknown): value is PortCall {
  return typeof value === "string" && (PORT_CALLS as readonly string[]).includes(value);
}

/** `{"call", "kind", "nth"?, "times"?, "when"?, "ms"?, "bytes"?}` */
function addFault(
  faults: Faults,
  { call, kind, nth = 1, times = 1, when = "before", ms, bytes }: JsonObject,
): Fault {
  if (!isPortCall(call)) throw new BadControl(`call must be one of ${PORT_CALLS.join(", ")}`);
  if (typeof nth !== "number" || typeof times !== "number")
    throw new BadControl("nth and times must be numbers");
  if (when !== "before" && when !== "after") throw new BadControl("when must be before or after");
  switch (kind) {
    case "fail":
      return faults.fail(call, { nth, times, when });
    case "crash":
      return faults.crash(call, { nth, times, when });
    case "delay":
      return faults.delay(call, spanOf(ms === undefined ? {} : { ms }), { nth, times });
    case "tear":
      if (call !== "blobs.put" && call !== "blobs.copy" && call !== "blobs.serve") {
        throw new BadControl("Only blobs.put, blobs.copy and blobs.serve can be torn");
      }
      if (typeof bytes !== "number") throw new BadControl("bytes must say how much is kept");
      return faults.tear(call, bytes, { nth, times });
    default:
      throw new BadControl("kind must be one of fail, crash, delay, tear");
  }
}

function faultJson({ call, kind, seen, fired }: Fault): object {
  return { call, kind, seen, fired };
}

/** A number, or a list of `{"filename"?, "contentType"?, "metadata"?, "text"? or "base64"?}`. */
function seedOf(artifacts: unknown): number | SeedArtifact[] {
  const count = Array.isArray(artifacts) ? artifacts.length : artifacts;
  if (typeof count !== "number" || !Number.isSafeInteger(count) || count < 0 || count > ARTIFACTS_MAX) {
    throw new BadControl(`artifacts must be a number up to ${ARTIFACTS_MAX}, or a list of that many at most`);
  }
  return Array.isArray(artifacts) ? artifacts.map(seedArtifact) : count;
}

function seedArtifact(wanted: unknown, index: number): SeedArtifact {
  if (!isJsonObject(wanted)) throw new BadControl(`artifacts[${index}] must be an object`);
  const text = (name: string): string | undefined => {
    const value = wanted[name];
    if (value !== undefined && typeof value !== "string") {
      throw new BadControl(`artifacts[${index}].${name} must be a string`);
    }
    return value;
  };
  const { metadata } = wanted;
  if (metadata !== undefined && !isJsonObject(metadata)) {
    throw new BadControl(`artifacts[${index}].metadata must be an object`);
  }
  const [filename, contentType, plain, base64] = ["filename", "contentType", "text", "base64"].map(text);
  const bytes = plain ?? (base64 === undefined ? undefined : new Uint8Array(Buffer.from(base64, "base64")));
  return {
    ...(filename === undefined ? {} : { filename }),
    ...(contentType === undefined ? {} : { contentType }),
    ...(metadata === undefined ? {} : { metadata }),
    ...(bytes === undefined ? {} : { bytes }),
  };
}
