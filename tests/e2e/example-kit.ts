/**
 * What is done with every example that speaks HTTP: the whole main job on plain `fetch`, and a large body each way with
 * proof that nobody holds it whole. How an example is started is examples.test.ts's.
 */

import { createHash } from "node:crypto";
import { open, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";

const MIB = 1024 ** 2;
/** MiB of a body that nobody should hold. */
export const LARGE_MIB = 64;
/** MiB after which a sender goes on only when some of it has been stored. */
const GATE_MIB = 32;

export type Fetch = (url: string, init?: RequestInit) => Promise<Response>;

/** Where an example is reached, and what its first start told. */
export interface Target {
  /** The public URL, without a slash at its end. */
  readonly url: string;
  readonly fetch: Fetch;
  readonly credentials: { readonly clientId: string; readonly clientSecret: string };
  readonly dockId: string;
  /** Largest number of bytes that it keeps in one blob, finished or not. */
  readonly stored: () => Promise<number>;
  /** Changes the last byte of its largest blob, as a disk would that goes bad. */
  readonly damage: () => Promise<void>;
}

/** As much of an artifact as is looked at. */
interface Shown {
  readonly id: string;
  readonly hash: string | null;
  readonly uploadUrl: string;
  readonly uploadId: string;
  readonly downloadUrl: string;
  readonly isDuplicate: boolean;
}

/** Token, create, PUT, complete, list, download; every URL below the public one. */
export async function doMainJob(target: Target): Promise<void> {
  const body = "Blood count: fine.";
  const hash = `sha256:${createHash("sha256").update(body).digest("hex")}`;
  const { call, send, download } = await connect(target);
  const stored = await send("report.txt", body);
  expect(stored).toMatchObject({ hash, isDuplicate: false });
  const listed = await download(stored.id);
  expect(await listed.text()).toBe(body);
  expect(listed.headers.get("content-disposition")).toContain("report.txt");

  const again = await send("report-again.txt", body);
  expect(again).toMatchObject({ id: stored.id, isDuplicate: true });
  await call("DELETE", `/${stored.id}`);
  expect(await call("GET", "")).toMatchObject({ data: [], meta: { total: 0 } });

  const refused = await target.fetch(`${target.url}/v1/machine/docks/${target.dockId}/artifacts`);
  expect(refused.status).toBe(401);
  expect(refused.headers.get("www-authenticate")).toContain("Bearer");
  expect(await refused.json()).toMatchObject({ error: "Unauthorized" });
}

/**
 * Sends 64 MiB and reads them back. The sender stops half-way until some of it is stored, which never happens where the
 * body is gathered first; the reader has the last byte go bad after the first arrived, which harms nobody who holds
 * them all.
 */
export async function streamLarge(target: Target): Promise<void> {
  const { send, download } = await connect(target);
  const hash = createHash("sha256");
  let sent = 0;
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        if (sent === LARGE_MIB) return controller.close();
        if (sent === GATE_MIB) await until(async () => (await target.stored()) >= MIB);
        const chunk = new Uint8Array(MIB).fill(++sent);
        hash.update(chunk);
        controller.enqueue(chunk);
      },
    },
    { highWaterMark: 0 },
  );
  const stored = await send("large.bin", body);
  expect(stored.hash).toBe(`sha256:${hash.digest("hex")}`);

  const response = await download(stored.id);
  expect(response.headers.get("content-length")).toBe(String(LARGE_MIB * MIB));
  let received = 0;
  const read = async (): Promise<void> => {
    for await (const chunk of response.body!) {
      if (received === 0) await target.damage();
      received += (chunk as Uint8Array).length;
    }
  };
  await expect(read()).rejects.toBeInstanceOf(Error);
  expect(received).toBeGreaterThan(0);
  expect(received).toBeLessThan(LARGE_MIB * MIB);
}

async function connect(target: Target) {
  const { url, fetch, credentials, dockId } = target;
  const json = async (response: Response): Promise<unknown> => {
    const text = await response.text();
    if (!response.ok) throw new Error(`${response.status} ${text}`);
    return text === "" ? null : JSON.parse(text);
  };
  const { access_token: token } = (await json(
    await fetch(`${url}/v1/oauth/token`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({
        grant_type: "client_credentials",
        client_id: credentials.clientId,
        client_secret: credentials.clientSecret,
      }),
    }),
  )) as { readonly access_token: string };

  const call = async (method: string, path: string, body?: object): Promise<unknown> =>
    json(
      await fetch(`${url}/v1/machine/docks/${dockId}/artifacts${path}`, {
        method,
        headers: {
          Authorization: `Bearer ${token}`,
          ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      }),
    );

  return {
    call,
    async send(filename: string, body: string | ReadableStream<Uint8Array>): Promise<Shown> {
      const created = (await call("POST", "", { filename, metadata: {} })) as Shown;
      expect(created.uploadUrl).toMatch(new RegExp(`^${url}/v1/blobs/`));
      const stream = typeof body === "string" ? {} : { duplex: "half" as const };
      expect((await fetch(created.uploadUrl, { method: "PUT", body, ...stream })).status).toBe(200);
      return (await call("POST", "/upload/complete", { uploadId: created.uploadId })) as Shown;
    },
    /** Of what the list shows first, which is this one. */
    async download(id: string): Promise<Response> {
      const { data } = (await call("GET", "")) as { readonly data: readonly Shown[] };
      expect(data[0]).toMatchObject({ id });
      expect(data[0]!.downloadUrl).toMatch(new RegExp(`^${url}/v1/blobs/`));
      const response = await fetch(data[0]!.downloadUrl);
      expect(response.status).toBe(200);
      return response;
    },
  };
}

/** What lies in a folder of the disk store. */
export function diskOf(folder: string): Pick<Target, "stored" | "damage"> {
  const largest = async (): Promise<{ readonly path: string; readonly size: number }> => {
    let found = { path: "", size: 0 };
    for (const entry of await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => [])) {
      const path = join(entry.parentPath, entry.name);
      const size = entry.isFile() ? await sizeOf(path) : 0;
      if (size > found.size) found = { path, size };
    }
    return found;
  };
  return {
    stored: async () => (await largest()).size,
    async damage() {
      const { path, size } = await largest();
      const file = await open(path, "r+");
      await file.write(new Uint8Array([255]), 0, 1, size - 1);
      await file.close();
    },
  };
}

/** Files come and go while one looks. */
async function sizeOf(path: string): Promise<number> {
  return stat(path).then(
    ({ size }) => size,
    () => 0,
  );
}

/** Asks again and again; what never comes is the test's own limit of time to notice. */
export async function until(isSo: () => Promise<boolean>): Promise<void> {
  while (!(await isSo())) await sleep(10);
}

/** `first start: {…}`, as the examples print it. */
export function firstRunIn(printed: string): Pick<Target, "credentials" | "dockId"> {
  const [, text] = /^first start: (\{.*\})$/m.exec(printed) ?? [];
  if (text === undefined) throw new Error(`no first start was printed:\n${printed}`);
  const { dock, client, clientSecret } = JSON.parse(text) as {
    readonly dock: { readonly id: string };
    readonly client: { readonly clientId: string };
    readonly clientSecret: string;
  };
  return { dockId: dock.id, credentials: { clientId: client.clientId, clientSecret } };
}
