/**
 * What Prometheus reads: requests by route, bytes, and what became of uploads, in a registry of this app's own; beside
 * them the figures of the process, which are collected once however many apps it holds.
 */

import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";

/** Seconds: from a cached answer to a large body on a slow line. */
const DURATION_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600];

/** Requests that are counted together: in the middle of each, counting would cost several times as much. */
const UNCOUNTED_MAX = 256;

export interface RequestFigures {
  readonly method: string;
  /** The pattern, never the path: each label value lives for ever. */
  readonly route: string;
  readonly status: number;
  readonly ms: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
}

export interface Metrics {
  readonly contentType: string;
  request(figures: RequestFigures): void;
  tokenIssued(): void;
  created(isDuplicate: boolean): void;
  completed(outcome: "stored" | "duplicate" | "pending"): void;
  corruption(): void;
  text(): Promise<string>;
}

let processRegistry: Registry | undefined;

/** CPU, memory, garbage collection, event loop: figures of the process, whoever asks. */
function processMetrics(): Registry {
  if (processRegistry === undefined) {
    processRegistry = new Registry();
    collectDefaultMetrics({ register: processRegistry });
  }
  return processRegistry;
}

/** @param certificateExpiresAt In milliseconds since 1970 UTC; absent where someone else does TLS. */
export function createMetrics(version: string, certificateExpiresAt?: () => number): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const counter = <L extends string>(name: string, help: string, labelNames: readonly L[]): Counter<L> =>
    new Counter({ name, help, labelNames, registers });

  const durations = new Histogram({
    name: "docyard_http_request_duration_seconds",
    help: "Time until the handler was done, by route pattern",
    labelNames: ["method", "route", "status"],
    buckets: DURATION_BUCKETS,
    registers,
  });
  const bytesIn = counter("docyard_http_request_body_bytes_total", "Body bytes received", [
    "method",
    "route",
  ]);
  const bytesOut = counter("docyard_http_response_body_bytes_total", "Body bytes sent", ["method", "route"]);
  const created = counter("docyard_artifacts_created_total", "Creates, by whether the content was there", [
    "duplicate",
  ]);
  const completed = counter("docyard_uploads_completed_total", "Completes, by what became of the bytes", [
    "outcome",
  ]);
  const tokens = counter("docyard_tokens_issued_total", "Access tokens issued", []);
  const corruptions = counter(
    "docyard_blob_corruptions_total",
    "Downloads withheld because stored bytes did not match their digest",
    [],
  );
  counter("docyard_build_info", "Always 1; the version is the label", ["version"]).inc({ version });
  if (certificateExpiresAt !== undefined) {
    const gauge: Gauge = new Gauge({
      name: "docyard_tls_certificate_expiry_timestamp_seconds",
      help: "When the certificate in use expires, in seconds since 1970 UTC",
      registers,
      collect: () => gauge.set(certificateExpiresAt() / 1_000),
    });
  }

  /** Children by their labels: finding them anew each time would cost more than counting. */
  const children = new Map<string, ReturnType<typeof childrenOf>>();
  const childrenOf = (method: string, route: string, status: number) => ({
    duration: durations.labels(method, route, String(status)),
    in: bytesIn.labels(method, route),
    out: bytesOut.labels(method, route),
  });

  const count = ({ method, route, status, ms, bytesIn, bytesOut }: RequestFigures): void => {
    const name = `${method} ${route} ${status}`;
    let child = children.get(name);
    if (child === undefined) {
      child = childrenOf(method, route, status);
      children.set(name, child);
    }
    child.duration.observe(ms / 1_000);
    if (bytesIn > 0) child.in.inc(bytesIn);
    if (bytesOut > 0) child.out.inc(bytesOut);
  };
  let uncounted: RequestFigures[] = [];
  const countAll = (): void => {
    // Given up first: what cannot be counted must not be tried again with every request.
    const all = uncounted;
    uncounted = [];
    for (const figures of all) count(figures);
  };

  return {
    contentType: registry.contentType,
    request(figures) {
      if (uncounted.push(figures) >= UNCOUNTED_MAX) countAll();
    },
    tokenIssued: () => tokens.inc(),
    created: (isDuplicate) => created.inc({ duplicate: String(isDuplicate) }),
    completed: (outcome) => completed.inc({ outcome }),
    corruption: () => corruptions.inc(),
    async text() {
      countAll();
      return `${await registry.metrics()}\n${await processMetrics().metrics()}`;
    },
  };
}
