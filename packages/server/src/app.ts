/**
 * The whole HTTP server as one Hono app: request ids, the log and the metrics around everything, then the faces, the
 * blob store's own URLs, keys and health. Listening, configuration and adapters are left to whoever calls this.
 */

import type { BlobStore, Docyard, Provisioning } from "@docyard/core";
import { SCOPES } from "@docyard/core";
import { Hono } from "hono";
import { routePath } from "hono/route";
import { mountBlobs } from "./blobs.ts";
import { BODY_BYTES_MAX } from "./body.ts";
import { mountDocs, redirectBrowser } from "./docs.ts";
import type { AppEnv, Exchange, HostBindings } from "./exchange.ts";
import { replyJson, replyText, requestId } from "./exchange.ts";
import { faceOf } from "./faces.ts";
import { answerFault, HttpFault, refuseMethod } from "./fault.ts";
import type { ReadinessChecks } from "./health.ts";
import { mountHealth } from "./health.ts";
import type { Logger, RequestLine } from "./log.ts";
import { silentLogger } from "./log.ts";
import { mountMachine, TOKEN_PATH } from "./machine.ts";
import { createMetrics } from "./metrics.ts";
import { rememberingRouter } from "./router.ts";
import { mountStudio } from "./studio.ts";
import { createTokens } from "./tokens.ts";

export interface AppOptions {
  /** The use cases that requests are answered from. */
  readonly docyard: Docyard;
  /** Where the token keys are. */
  readonly provisioning: Pick<Provisioning, "serverKeys">;
  /** Its own signed URLs are mounted if it serves them. */
  readonly blobs: BlobStore;
  /** Told by health, metrics and the API's document: the host program's own, or docyard's. */
  readonly version: string;
  /** Where clients reach this server, the path it is mounted at included; asked on each use: a port may be known late. */
  readonly publicUrl: () => string;
  /** Default: no log. */
  readonly log?: Logger;
  /** Default 1 h. */
  readonly tokenTtlMs?: number;
  /** Milliseconds since 1970 UTC. Default `Date.now`. */
  readonly now?: () => number;
  /** Largest body of an API request, in bytes; uploads have their own limit. Default 1 MiB. */
  readonly bodyBytesMax?: number;
  /** What `/v1/readyz` asks, by name. Default: `docyard` as a whole, and `blobs`. */
  readonly checks?: ReadinessChecks;
  /**
   * Whose request it is, for the log. Only the host knows its connections and which proxies it trusts. Default: no
   * address is noted, and no forwarded header is ever read (ruling 15).
   */
  readonly clientAddress?: (bindings: HostBindings) => string | null;
  /** When the certificate of the host's own TLS expires, in milliseconds since 1970 UTC, for the metrics. Default: none. */
  readonly certificateExpiresAt?: () => number;
  /**
   * Scalar's standalone script, gzipped; asked for once, when a browser first wants it. Default: none, and `/docs` is a
   * page that links the document.
   */
  readonly docsAsset?: () => Promise<Uint8Array>;
}

/**
 * `fetch` for a server, `request` for tests. A Hono app `mount`s its `fetch`: below `route` it would see the whole path,
 * and answer Studio's errors in the machine face's envelope.
 */
export type App = Hono<AppEnv>;

const JWKS_PATH = "/.well-known/jwks.json";
const METRICS_PATH = "/metrics";
/** Asked every few seconds by machines: not worth a line at the usual level. */
const QUIET_ROUTES: ReadonlySet<string> = new Set(["/v1/healthz", "/v1/readyz", METRICS_PATH]);
/** Methods are the client's text: only these become labels. */
const METHODS: ReadonlySet<string> = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);

export function createApp(options: AppOptions): App {
  const { docyard, blobs, version, log = silentLogger, bodyBytesMax = BODY_BYTES_MAX } = options;
  const publicUrl = trimmed(options.publicUrl);
  const metrics = createMetrics(version, options.certificateExpiresAt);
  const tokens = createTokens({
    keys: options.provisioning,
    issuer: publicUrl,
    ...(options.tokenTtlMs === undefined ? {} : { ttlMs: options.tokenTtlMs }),
    ...(options.now === undefined ? {} : { now: options.now }),
  });

  const app: App = new Hono<AppEnv>({ router: rememberingRouter() });

  app.use(async (c, next) => {
    const startedAt = performance.now();
    const exchange = newExchange(requestId(c.req.header("x-request-id")));
    // Now: a connection that ends takes its address along.
    const remoteAddress = options.clientAddress?.(c.env ?? {}) ?? null;
    c.set("exchange", exchange);
    await next();
    const line: RequestLine = {
      requestId: exchange.id,
      method: METHODS.has(c.req.method) ? c.req.method : "other",
      // The one that answered: several patterns may match a path, such as a literal and a parameter.
      route: routeOf(routePath(c)),
      status: exchange.status ?? c.res.status,
      ms: Math.round((performance.now() - startedAt) * 1_000) / 1_000,
      bytesIn: exchange.bytesIn,
      bytesOut: exchange.bytesOut,
    };
    if (remoteAddress !== null) line.remoteAddress = remoteAddress;
    if (exchange.principalId !== null) line.principalId = exchange.principalId;
    if (exchange.artifactId !== null) line.artifactId = exchange.artifactId;
    if (exchange.aborted) line.aborted = true;
    metrics.request(line);
    if (QUIET_ROUTES.has(line.route)) log.debug(line, "request");
    else log.info(line, "request");
  });

  app.onError((error, c) => answerFault(c, faceOf(c.req.path), error, log));
  app.notFound(
    (c) =>
      redirectBrowser(c, publicUrl) ??
      answerFault(c, faceOf(c.req.path), new HttpFault(404, "No such route"), log),
  );

  mountMachine(app, { docyard, tokens, metrics, log, bodyBytesMax });
  mountStudio(app, { docyard, metrics, bodyBytesMax });
  mountHealth(app, {
    version,
    checks: options.checks ?? { docyard: () => docyard.ready(), blobs: () => blobs.ready() },
    log,
  });
  mountKeys(app, tokens, publicUrl);
  app.get(METRICS_PATH, async (c) => replyText(c, await metrics.text(), metrics.contentType));
  mountDocs(app, {
    served: {
      version,
      settings: docyard.settings,
      bodyBytesMax,
      blobPath: blobs.serve?.path ?? null,
    },
    publicUrl,
    ...(options.docsAsset === undefined ? {} : { asset: options.docsAsset }),
  });
  refuseOtherMethods(app);
  if (blobs.serve !== undefined) {
    mountBlobs(app, { serve: blobs.serve, host: docyard.blobHost, metrics, log });
  }
  return app;
}

/** Without a slash at its end; asked for in every request, and nearly always the same. */
function trimmed(url: () => string): () => string {
  let last: { readonly given: string; readonly text: string } | null = null;
  return () => {
    const given = url();
    if (last?.given !== given) last = { given, text: given.replace(/\/+$/, "") };
    return last.text;
  };
}

function newExchange(id: string): Exchange {
  return {
    id,
    principalId: null,
    artifactId: null,
    bytesIn: 0,
    bytesOut: 0,
    challenge: null,
    status: null,
    aborted: false,
  };
}

/** The catch-all of the middleware means that no route matched. */
function routeOf(pattern: string): string {
  return pattern === "/*" || pattern === "*" ? "unmatched" : pattern;
}

/** What others need in order to check our tokens, and OAuth clients to find the endpoint (RFC 8414). */
function mountKeys(app: App, tokens: ReturnType<typeof createTokens>, publicUrl: () => string): void {
  /** Short enough for a new key to be known soon, long enough to spare us most requests: 5 min. */
  const headers = { "Cache-Control": "public, max-age=300" };
  app.get(JWKS_PATH, async (c) => replyJson(c, await tokens.jwks(), { headers }));
  app.get("/.well-known/oauth-authorization-server", (c) =>
    replyJson(
      c,
      {
        issuer: publicUrl(),
        token_endpoint: publicUrl() + TOKEN_PATH,
        jwks_uri: publicUrl() + JWKS_PATH,
        response_types_supported: [],
        grant_types_supported: ["client_credentials"],
        token_endpoint_auth_methods_supported: ["client_secret_post", "client_secret_basic"],
        scopes_supported: SCOPES,
      },
      { headers },
    ),
  );
}

/** Every known path answers 405 and `Allow` to methods it has no handler for. */
function refuseOtherMethods(app: App): void {
  const methods = new Map<string, Set<string>>();
  for (const { method, path } of app.routes) {
    if (method === "ALL") continue;
    const known = methods.get(path) ?? new Set();
    methods.set(path, known.add(method));
    if (method === "GET") known.add("HEAD");
  }
  for (const [path, known] of methods) {
    app.all(path, refuseMethod([...known].sort().join(", ")));
  }
}
