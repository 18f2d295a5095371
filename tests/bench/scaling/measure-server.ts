/**
 * Processor time of real server processes for each request, asked over HTTP on connections that stay open, and what
 * PostgreSQL spends meanwhile. The clients' own time is not counted.
 */

import { randomBytes } from "node:crypto";
import { type Server, startServer, tempFolder } from "../../e2e/program.ts";
import type { ArtifactJson, PageJson } from "../../e2e/client.ts";
import { REPLICA } from "../../services/fleet.ts";
import { processorUs } from "./host.ts";
import { described, each } from "./measure-store.ts";

const MIB = 1024 ** 2;
const CALLERS = 16;
const SMALL_BYTES = 10 * 1024;
const POLL_MS = 200;

export interface ServerSubject {
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** PostgreSQL's first process, where there is one. */
  readonly databasePid?: number;
}

interface Spent {
  readonly server: number;
  readonly database: number;
  /** Requests a second, with the clients on the same machine. */
  readonly rate: number;
}
export type Phase = "create" | "upload" | "complete" | "list" | "download";
export interface ServerMeasured {
  /** Microseconds of processor time for each request. */
  readonly small: Readonly<Record<Phase, Spent>>;
  /** Microseconds for each MiB. */
  readonly perMiB: { readonly upload: number; readonly complete: number; readonly download: number };
}

export interface ServerSizes {
  readonly artifacts: number;
  readonly large: number;
  readonly largeMiB: number;
}

export async function measureServer(subject: ServerSubject, sizes: ServerSizes): Promise<ServerMeasured> {
  const folder = await tempFolder();
  const limits = ["--limit-list", "0", "--limit-download", "0", "--limit-token", "0", "--log-level", "error"];
  const { args, env = {} } = subject;
  const server = await startServer([...args, ...limits], { ...REPLICA, cwd: folder.path, env });
  try {
    const client = await clientOf(server);
    const count = (phase: () => Promise<number>, requests: number) =>
      spentOn(subject, server, phase, requests);
    // So that code is compiled and files are open.
    await round(client, count, Math.ceil(sizes.artifacts / 2), SMALL_BYTES);
    const small = await round(client, count, sizes.artifacts, SMALL_BYTES);
    const large = await round(client, count, sizes.large, sizes.largeMiB * MIB);
    const perMiB = (phase: Phase): number =>
      Math.max(0, large[phase].server - small[phase].server) / sizes.largeMiB;
    return {
      small,
      perMiB: { upload: perMiB("upload"), complete: perMiB("complete"), download: perMiB("download") },
    };
  } finally {
    await server.stop();
    await folder.remove();
  }
}

type Count = (phase: () => Promise<number>, requests: number) => Promise<Spent>;

async function spentOn(
  { databasePid }: ServerSubject,
  server: Server,
  phase: () => Promise<number>,
  requests: number,
): Promise<Spent> {
  const now = async () => [
    await processorUs(server.pid),
    databasePid === undefined ? 0 : await processorUs(databasePid),
  ];
  const before = await now();
  const seconds = await phase();
  const after = await now();
  return {
    server: (after[0]! - before[0]!) / requests,
    database: (after[1]! - before[1]!) / requests,
    rate: requests / seconds,
  };
}

interface Client {
  call<T>(method: string, path: string, json?: object): Promise<T>;
}

/** So many artifacts, one kind of request after the other. */
async function round(
  { call }: Client,
  count: Count,
  artifacts: number,
  bytes: number,
): Promise<Record<Phase, Spent>> {
  const { total: before } = (await call<PageJson>("GET", "?limit=1")).meta;
  const created: ArtifactJson[] = [];
  const create = await count(
    () => each(artifacts, CALLERS, async (i) => void created.push(await call("POST", "", described(i)))),
    artifacts,
  );
  const upload = await count(
    () =>
      each(artifacts, CALLERS, async (i) => {
        await answered(await fetch(created[i]!.uploadUrl!, { method: "PUT", body: randomBytes(bytes) }));
      }),
    artifacts,
  );
  const complete = await count(async () => {
    const from = performance.now();
    await each(artifacts, CALLERS, async (i) => {
      const { uploadId, storageKey } = created[i]!;
      await call("POST", "/upload/complete", { uploadId, s3Key: storageKey });
    });
    // A worker may still have to verify some.
    while ((await call<PageJson>("GET", "?limit=1")).meta.total < before + artifacts)
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    return (performance.now() - from) / 1_000;
  }, artifacts);
  const list = await count(
    () => each(artifacts, CALLERS, async () => void (await call("GET", ""))),
    artifacts,
  );
  const urls: string[] = [];
  for (let page = 1; urls.length < artifacts; page++) {
    const limit = Math.min(1_000, artifacts);
    for (const { downloadUrl } of (await call<PageJson>("GET", `?limit=${limit}&page=${page}`)).data)
      urls.push(downloadUrl);
  }
  const download = await count(
    () => each(artifacts, CALLERS, async (i) => void (await answered(await fetch(urls[i]!)))),
    artifacts,
  );
  return { create, upload, complete, list, download };
}

async function clientOf(server: Server): Promise<Client> {
  const { client, dock } = server.firstRun!;
  const { clientId, clientSecret } = client;
  const granted = await fetch(`${server.url}/v1/oauth/token`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      grant_type: "client_credentials",
      client_id: clientId,
      client_secret: clientSecret,
    }),
  });
  const { access_token: token } = JSON.parse((await answered(granted)).toString()) as {
    access_token: string;
  };
  return {
    async call<T>(method: string, path: string, json?: object): Promise<T> {
      const answer = await fetch(`${server.url}/v1/machine/docks/${dock.id}/artifacts${path}`, {
        method,
        headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
        ...(json === undefined ? {} : { body: JSON.stringify(json) }),
      });
      return JSON.parse((await answered(answer)).toString()) as T;
    },
  };
}

async function answered(answer: Response): Promise<Buffer> {
  const body = Buffer.from(await answer.arrayBuffer());
  // A signed URL is a secret: not told.
  if (!answer.ok) throw new Error(`a server answered ${answer.status}: ${body.toString().slice(0, 300)}`);
  return body;
}
