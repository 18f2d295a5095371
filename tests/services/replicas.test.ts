/** Replicas on one database, bucket or folder, and Redis: whatever one of them knows, all of them know. */

import { postgresStore } from "@docyard/adapters/store/postgres";
import type { Store } from "@docyard/core";
import { createProvisioning } from "@docyard/core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { download, exchange, machineClient, put } from "../e2e/client.ts";
import type { ArtifactJson, MachineClient } from "../e2e/client.ts";
import { operatorOf } from "../http/harness.ts";
import type { Operator } from "../http/target.ts";
import { sha256, someBytes } from "../http/target.ts";
import type { Fleet } from "./fleet.ts";
import { startFleet } from "./fleet.ts";
import type { RedisService } from "./index.ts";
import { freshDatabase, startRedis } from "./index.ts";

let fleet: Fleet;
let store: Store;
let operator: Operator;
let redis: RedisService;
const cleanups: (() => Promise<void>)[] = [];

afterAll(async () => {
  for (const cleanup of cleanups.toReversed()) await cleanup();
});

/** A client of a dock of its own, of each replica and of the balancer. */
async function someone(): Promise<{ a: MachineClient; b: MachineClient; any: MachineClient }> {
  const dockId = await operator.createDock();
  const credentials = await operator.createClient({ dockId });
  const at = (url: string): MachineClient => machineClient(url, credentials, dockId);
  return { a: at(fleet.urlOf(0)), b: at(fleet.urlOf(1)), any: at(fleet.url) };
}

function listWith(url: string, dockId: string, token: string): ReturnType<typeof exchange> {
  return exchange(`${url}/v1/machine/docks/${dockId}/artifacts`, {
    headers: { authorization: `Bearer ${token}` },
  });
}

describe("three replicas that started at once on an empty database, on a shared folder and Redis", () => {
  beforeAll(async () => {
    const database = await freshDatabase();
    cleanups.push(() => database.remove());
    redis = await startRedis();
    cleanups.push(() => redis.stop());
    fleet = await startFleet({
      replicas: 3,
      args: ["--db", database.url, "--blob", "blobs", "--queue", redis.url, "--limit-list", "30"],
    });
    cleanups.push(() => fleet.close());
    store = await postgresStore({ url: database.url });
    cleanups.push(() => store.close());
    operator = operatorOf(createProvisioning(store.accounts));
  });

  test("agreed on one first organisation, one signing key each, and one schema", async () => {
    // The key that signs tokens is made by whoever is asked for one first: all of them, at once.
    const dockId = await operator.createDock();
    const credentials = await operator.createClient({ dockId });
    const clients = [0, 1, 2].map((index) => machineClient(fleet.urlOf(index), credentials, dockId));
    await Promise.all(clients.map((client) => client.list()));
    const ids = async (kind: "organization" | "dock" | "serverKey") =>
      (await store.accounts.list(kind)).map(({ id }) => id);
    expect((await ids("organization")).filter((id) => id === "org_default")).toHaveLength(1);
    expect((await ids("dock")).filter((id) => id !== dockId)).toEqual(["dock_default"]);
    expect((await ids("serverKey")).sort()).toEqual(["token-1", "url-1"]);
    for (const index of [0, 1, 2]) {
      expect((await exchange(`${fleet.urlOf(index)}/v1/readyz`)).status).toBe(200);
    }
  });

  test("a token of one, an upload to another, a completion by the third", async () => {
    const { a, b, any } = await someone();
    const token = await a.token();
    const bytes = someBytes(100_000);
    const answer = await exchange(`${fleet.urlOf(1)}/v1/machine/docks/${a.dockId}/artifacts`, {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: Buffer.from(JSON.stringify({ filename: "shared.bin", hash: sha256(bytes) })),
    });
    expect(answer.status).toBe(201);
    const created = JSON.parse(answer.body.toString()) as ArtifactJson;
    await put(created.uploadUrl!.replace(fleet.url, fleet.urlOf(2)), bytes);
    expect(await any.complete(created as Required<ArtifactJson>)).toMatchObject({
      id: created.id,
      size: 100_000,
    });
    const [listed] = (await b.list()).data;
    for (const index of [0, 1, 2]) {
      const got = await download(listed!.downloadUrl.replace(fleet.url, fleet.urlOf(index)));
      expect(got).toEqual({ status: 200, size: 100_000, digest: sha256(bytes) });
    }
  });

  test("the same bytes through all of them at once are one artifact", async () => {
    const { a, b, any } = await someone();
    const bytes = someBytes(10_000);
    const sent = await Promise.all(
      [a, b, any, a, b, any].map((client) => client.send({ filename: "same" }, () => bytes)),
    );
    expect(new Set(sent.map(({ id }) => id)).size).toBe(1);
    expect(sent.filter(({ isDuplicate }) => !isDuplicate)).toHaveLength(1);
  });

  test("a limit is counted by all together", async () => {
    const { a, b } = await someone();
    for (let i = 0; i < 15; i++) await Promise.all([a.list(), b.list()]);
    await expect(a.list()).rejects.toMatchObject({ status: 429 });
    await expect(b.list()).rejects.toMatchObject({ status: 429 });
  });

  test("a client that is disabled is refused by all at once, its token too", async () => {
    const dockId = await operator.createDock();
    const credentials = await operator.createClient({ dockId });
    const clients = [0, 1, 2].map((index) => machineClient(fleet.urlOf(index), credentials, dockId));
    for (const client of clients) await client.list();
    await operator.disableClient(credentials.id);
    for (const client of clients) await expect(client.list()).rejects.toMatchObject({ status: 401 });
  });

  test("what one has signed with a new key is good for those that have not read it", async () => {
    const { a, b } = await someone();
    const bytes = someBytes(1_000);
    await a.send({ filename: "signed" }, () => bytes);
    const [listed] = (await a.list()).data;
    const [old, at0] = [await b.token(), fleet.urlOf(0)];
    await createProvisioning(store.accounts).rotateServerKeys();
    // Shown what none of its keys signed, the first one looks; the others have no reason to.
    const head = Buffer.from('{"alg":"EdDSA","typ":"at+jwt","kid":"invented"}').toString("base64url");
    const invented = old.replace(/(?<=^dyt_live_)[^.]+/, head);
    expect((await listWith(at0, a.dockId, invented)).status).toBe(401);
    const forged = listed!.downloadUrl.replace(fleet.url, at0).replace(/signature=./, "signature=_");
    expect((await exchange(forged)).status).toBe(403);

    const credentials = await operator.createClient({ dockId: a.dockId });
    const fresh = machineClient(at0, credentials, a.dockId);
    const token = await fresh.token();
    expect(Buffer.from(token.slice("dyt_live_".length).split(".")[0]!, "base64url").toString()).toContain(
      '"kid":"token-2"',
    );
    const [relisted] = (await fresh.list()).data;
    for (const index of [0, 1, 2]) {
      for (const bearer of [token, old]) {
        expect((await listWith(fleet.urlOf(index), a.dockId, bearer)).status).toBe(200);
      }
      for (const { downloadUrl } of [relisted!, listed!]) {
        const got = await download(downloadUrl.replace(fleet.url, fleet.urlOf(index)));
        expect(got).toMatchObject({ status: 200, digest: sha256(bytes) });
      }
    }
  });

  test("a rolling restart of all of them fails no request", async () => {
    const { any } = await someone();
    const over = new AbortController();
    let sent = 0;
    const work = async (): Promise<void> => {
      for (; !over.signal.aborted; sent++) {
        const bytes = someBytes(50_000);
        const { hash } = await any.send({ filename: "rolled", hash: sha256(bytes) }, () => bytes);
        expect(hash).toBe(`sha256:${sha256(bytes)}`);
      }
    };
    const working = Promise.all([work(), work(), work(), work()]);
    const rolling = (async () => {
      for (const index of [0, 1, 2]) await fleet.roll(index);
      over.abort();
    })();
    await Promise.all([working, rolling]);
    expect(sent).toBeGreaterThan(10);
    expect((await any.list({ limit: "1" })).meta.total).toBe(sent);
  });

  test("while one is killed the others serve", async () => {
    const { any } = await someone();
    await any.token();
    await fleet.kill(0);
    const outcomes = await Promise.allSettled(Array.from({ length: 20 }, () => any.list()));
    await fleet.start(0);
    expect(outcomes.flatMap((one) => (one.status === "rejected" ? [String(one.reason)] : []))).toEqual([]);
  });

  test("without Redis everything goes on, and readiness says what is missing", async () => {
    await redis.kill();
    const { a } = await someone();
    const bytes = someBytes(1_000);
    await a.send({ filename: "alone" }, () => bytes);
    const ready = await exchange(`${fleet.urlOf(0)}/v1/readyz`);
    expect([ready.status, JSON.parse(ready.body.toString())]).toEqual([
      503,
      { status: "unavailable", checks: { store: "ok", blobs: "ok", queue: "failing" } },
    ]);
    await redis.restart();
    await expect
      .poll(async () => (await exchange(`${fleet.urlOf(0)}/v1/readyz`)).status, { timeout: 20_000 })
      .toBe(200);
  });
});
