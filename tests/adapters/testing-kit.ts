/** What a client does with the test double, in a few words: create, PUT, complete, download, and Studio's create. */

import type { TestDouble } from "@docyard/adapters/testing";

export interface Client {
  create(
    body?: object,
  ): Promise<{ readonly id: string; readonly uploadUrl: string; readonly uploadId: string }>;
  put(uploadUrl: string, body: string): Promise<number>;
  /** The status and the body. */
  complete(uploadId: string): Promise<readonly [number, Record<string, unknown>]>;
  /** All three; resolves to the artifact. */
  upload(text: string): Promise<Record<string, unknown>>;
  list(): Promise<readonly Record<string, unknown>[]>;
  studio(body: object): Promise<Record<string, unknown>>;
  studioArtifact(id: unknown): Promise<Record<string, unknown>>;
}

export function clientOf(double: TestDouble): Client {
  const path = `/v1/machine/docks/${double.dock.id}/artifacts`;
  const send = async (
    credential: string,
    to: string,
    body?: object,
  ): Promise<readonly [number, Record<string, unknown>]> => {
    const response = await double.fetch(to, {
      ...(body === undefined ? {} : { method: "POST", body: JSON.stringify(body) }),
      headers: { Authorization: `Bearer ${credential}`, "Content-Type": "application/json" },
    });
    return [response.status, (await response.json()) as Record<string, unknown>];
  };
  const expecting = async (
    status: number,
    sent: Promise<readonly [number, Record<string, unknown>]>,
  ): Promise<Record<string, unknown>> => {
    const [got, body] = await sent;
    if (got !== status) throw new Error(`${got}: ${JSON.stringify(body)}`);
    return body;
  };
  const client: Client = {
    async create(body = {}) {
      const created = await expecting(201, send(double.token, path, { filename: "a.txt", ...body }));
      return created as { id: string; uploadUrl: string; uploadId: string };
    },
    async put(uploadUrl, body) {
      const response = await double.fetch(uploadUrl, { method: "PUT", body });
      await response.text();
      return response.status;
    },
    complete: (uploadId) => send(double.token, `${path}/upload/complete`, { uploadId }),
    async upload(text) {
      const { uploadUrl, uploadId } = await client.create();
      const status = await client.put(uploadUrl, text);
      if (status !== 200) throw new Error(`PUT: ${status}`);
      return expecting(200, client.complete(uploadId));
    },
    async list() {
      const body = await expecting(200, send(double.token, path));
      return body["data"] as Record<string, unknown>[];
    },
    studio: (body) => expecting(201, send(double.key.apiKey, "/api/v1/artifacts/create", body)),
    studioArtifact: (id) => expecting(200, send(double.key.apiKey, `/api/v1/artifacts/${String(id)}`)),
  };
  return client;
}
