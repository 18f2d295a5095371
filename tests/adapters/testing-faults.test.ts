/**
 * The test double's faults: every method of every port can fail, wait or be the place where the process dies; writes can
 * be torn and power can be cut. After each, a client that tries again gets what it came for.
 */

import type { PortCall, TestDouble, TestDoubleOptions } from "@docyard/adapters/testing";
import { Crashed, InjectedFault, PORT_CALLS, testDouble } from "@docyard/adapters/testing";
import { DocyardError } from "@docyard/core";
import { createApp } from "@docyard/server";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { clientOf } from "./testing-kit.ts";

const URL_A = "https://cdn.example.com/a.mp4";

/** Windows that are minutes instead of a day: the sweeps in between are what takes time. */
const BRIEF = { uploadWindowMs: 120_000, urlTtlMs: 60_000, graceMs: 60_000 };

let double: TestDouble;

async function reopen(options: TestDoubleOptions = {}): Promise<void> {
  await double?.close();
  double = await testDouble(createApp, { media: "text", sources: { [URL_A]: "video:3000:x" }, ...options });
}

beforeEach(() => reopen());
afterEach(() => double.close());

/** Something of everything: an upload, a list, a download, a Studio artifact, a sweep. */
async function everything(): Promise<void> {
  const client = clientOf(double);
  const status = async (sent: Promise<unknown>): Promise<void> => void (await sent.catch(() => undefined));
  await status(client.upload("text"));
  const [first] = await client.list().catch(() => []);
  if (first !== undefined) await status(double.fetch(String(first["downloadUrl"])));
  const machine = await double.docyard
    .open(double.client, double.dock.id, "artifacts:write")
    .catch(() => null);
  if (first !== undefined) await status(machine?.remove(String(first["id"])) ?? Promise.resolve());
  await status(double.docyard.ready());
  const fragment = { url: URL_A, startTime: 0 };
  await status(
    client.studio({ name: "n", type: "video", fragments: [fragment, { ...fragment, startTime: 3 }] }),
  );
  await double.provisioning.setS3Credentials(
    double.key.id,
    { accessKeyId: "id", secretAccessKey: "secret" },
    double.sealer,
  );
  await status(client.studio({ name: "n", type: "video", s3Path: "s3://films/a.mp4" }));
  const { uploadUrl } = await client.create().catch(() => ({ uploadUrl: double.url }));
  await status(client.put(uploadUrl, "left behind"));
  await double.advance("65m");
  await status(double.docyard.collectGarbage());
}

/** Those that the flows above come by, and so can be seen to fire. */
const CALLS: readonly PortCall[] = [
  "artifacts.insert",
  "artifacts.get",
  "artifacts.status",
  "artifacts.update",
  "artifacts.find",
  "artifacts.findByDigest",
  "artifacts.isBlobInUse",
  "artifacts.due",
  "accounts.find",
  "accounts.list",
  "blobs.put",
  "blobs.get",
  "blobs.stat",
  "blobs.copy",
  "blobs.delete",
  "blobs.list",
  "blobs.signPut",
  "blobs.signGet",
  "blobs.serve",
  "blobs.ready",
  "queue.push",
  "queue.ready",
  "limit.take",
  "fetchUrl.open",
  "s3.open",
  "media.contentType",
  "media.probe",
  "media.join",
];

describe("a call that fails", () => {
  test.each(CALLS)("%s: the n-th, and so many after it", async (call) => {
    await reopen({ settings: BRIEF });
    const fault = double.faults.fail(call, { nth: 1, times: Number.POSITIVE_INFINITY });
    await everything();
    expect(fault.seen).toBeGreaterThan(0);
    expect(fault.fired).toBe(fault.seen);
    double.faults.clear();
    const { seen } = fault;
    await clientOf({ ...double, token: await double.issueToken() }).upload("afterwards");
    expect(fault.seen).toBe(seen);
  });

  test("names of methods and moments are checked by the compiler, and for those who have none", () => {
    // @ts-expect-error there is no such port
    expect(() => double.faults.fail("blob.copy")).toThrow(TypeError);
    // @ts-expect-error there is no such method
    expect(() => double.faults.fail("blobs.move")).toThrow(TypeError);
    // @ts-expect-error a consumer is the server itself
    expect(() => double.faults.fail("queue.consume")).toThrow(TypeError);
    // @ts-expect-error only writes of bytes can be torn
    expect(() => double.faults.tear("artifacts.update", 1)).toThrow(TypeError);
    for (const kind of ["fail", "crash"] as const)
      // @ts-expect-error a call has no such moment
      expect(() => double.faults[kind]("blobs.copy", { when: "later" })).toThrow(TypeError);
    double.faults.fail("blobs.copy", { only: (from, to, { size }) => from < to && size > 0 });
    // @ts-expect-error an id is text
    double.faults.fail("artifacts.update", { only: (id) => id === 7 });
    expect(double.faults.list()).toHaveLength(2);
  });

  test("every method of the ports has a name, and most are come by above", () => {
    const rest = [
      "artifacts.usage",
      "artifacts.walk",
      "artifacts.events",
      "accounts.insert",
      "accounts.update",
    ];
    const others = ["blobs.digest", "blobs.dropUnfinished", "blobs.space", "blobs.close"];
    expect([...CALLS, ...rest, ...others].sort()).toEqual([...PORT_CALLS].sort());
  });

  test("is counted from the next one on; the rest pass", async () => {
    const client = clientOf(double);
    await client.create();
    const fault = double.faults.fail("artifacts.insert", { nth: 2, times: 2 });
    await client.create();
    for (let i = 0; i < 2; i++) await expect(client.create()).rejects.toThrow(/500/);
    await client.create();
    expect(fault).toMatchObject({ call: "artifacts.insert", kind: "fail", seen: 4, fired: 2 });
  });

  test("before it takes effect, or after", async () => {
    const client = clientOf(double);
    const count = async (): Promise<number> => (await double.store.artifacts.usage(double.dock.id)).artifacts;
    double.faults.fail("artifacts.insert");
    await expect(client.create()).rejects.toThrow(/500/);
    expect(await count()).toBe(0);
    double.faults.fail("artifacts.insert", { when: "after" });
    await expect(client.create()).rejects.toThrow(/500/);
    expect(await count()).toBe(1);
  });

  test("with an error of one's own, which core understands as live", async () => {
    double.faults.fail("blobs.stat", { error: new DocyardError("upstream_failed", "no storage today") });
    const { uploadUrl, uploadId } = await clientOf(double).create();
    await clientOf(double).put(uploadUrl, "text");
    expect(await clientOf(double).complete(uploadId)).toMatchObject([502, { message: "no storage today" }]);
    double.faults.fail("artifacts.status");
    await expect(
      double.docyard.blobHost.admit({ method: "GET", key: "k", artifactId: "a", principalId: null }),
    )
      // A raw error of a driver is what it is: the app makes it a 500.
      .rejects.toThrow(InjectedFault);
  });

  test("only where its arguments say so", async () => {
    const client = clientOf(double);
    const spared = await client.create();
    const doomed = await client.create();
    const fault = double.faults.fail("artifacts.get", {
      only: (key) => "uploadId" in key && key.uploadId === doomed.uploadId,
    });
    for (const { uploadUrl } of [spared, doomed]) await client.put(uploadUrl, uploadUrl);
    expect((await client.complete(spared.uploadId))[0]).toBe(200);
    expect((await client.complete(doomed.uploadId))[0]).toBe(500);
    expect(fault).toMatchObject({ seen: 1, fired: 1 });
  });

  test.each([{ nth: 0 }, { nth: 1.5 }, { times: -1 }, { times: Number.NaN }])("refuses %j", (which) => {
    expect(() => double.faults.fail("blobs.put", which)).toThrow(TypeError);
  });

  test("can be taken back", async () => {
    const fault = double.faults.fail("artifacts.insert");
    expect(double.faults.list()).toEqual([fault]);
    fault.clear();
    expect(double.faults.list()).toEqual([]);
    await clientOf(double).create();
  });
});

describe("a call that is late", () => {
  test("waits for the clock, and for nothing else", async () => {
    const fault = double.faults.delay("artifacts.insert", "5s");
    let isDone = false;
    const creating = clientOf(double)
      .create()
      .finally(() => (isDone = true));
    await double.advance("4s999ms");
    expect([fault.fired, isDone]).toEqual([1, false]);
    await double.advance(1);
    expect(await creating).toMatchObject({ id: expect.stringMatching(/^art_/) as string });
  });

  test("is come by however many steps are before it, through core or HTTP", async () => {
    double.faults.delay("blobs.serve", "30s");
    const slow = async (): Promise<number> => {
      for (let i = 0; i < 5; i++) await (await double.fetch("/v1/healthz")).text();
      const writer = await double.docyard.open(double.client, double.dock.id, "artifacts:write");
      const { upload } = await writer.create({ filename: "a.txt" });
      return clientOf(double).put(upload!.url, "text");
    };
    const putting = slow();
    await double.advance("30s");
    expect(await putting).toBe(200);
  });

  test("time passes although somebody asks again and again without a pause", async () => {
    const over = new AbortController();
    const reader = await double.docyard.open(double.client, double.dock.id, "artifacts:read");
    const [seeded] = await double.seed({ artifacts: 1 });
    const askings = [() => double.fetch("/v1/healthz"), () => reader.get(seeded!.id)].map(async (ask) => {
      while (!over.signal.aborted) await ask();
    });
    await double.advance("1h");
    over.abort();
    await Promise.all(askings);
    expect(double.now()).toBe(Date.UTC(2026, 0, 1, 13));
  });

  test("of the background does not hold up the clock", async () => {
    const { id } = await clientOf(double).studio({ name: "n", type: "video", url: URL_A });
    double.faults.delay("fetchUrl.open", "10s");
    await double.advance("9s");
    expect(await clientOf(double).studioArtifact(id)).toMatchObject({ status: "upload_started" });
    await double.advance("1s");
    expect(await clientOf(double).studioArtifact(id)).toMatchObject({ status: "upload_completed" });
  });

  test("of a sweep holds up the next ones, and no more", async () => {
    await clientOf(double).create();
    await double.advance("23h");
    double.faults.delay("artifacts.due", "90m");
    await double.advance("2h");
    const at = (await double.events()).find(({ type }) => type === "artifact.failed")?.at;
    expect(at).toBe(Date.UTC(2026, 0, 1, 12) + 24 * 3_600_000 + 30 * 60_000 + 30_000);
  });

  test("a URL can expire while its request is late", async () => {
    const { uploadUrl } = await clientOf(double).create();
    double.faults.delay("blobs.serve", "2h");
    const putting = clientOf(double).put(uploadUrl, "text");
    await double.advance("2h");
    expect(await putting).toBe(403);
  });
});

describe("a crash", () => {
  test("ends every request, and the server is dead until it is restarted", async () => {
    const fault = double.faults.crash("artifacts.insert");
    await expect(clientOf(double).create()).rejects.toThrow(Crashed);
    await expect(double.fetch("/v1/healthz")).rejects.toThrow(Crashed);
    await double.advance("1h");
    expect(fault.fired).toBe(1);
    await double.restart();
    expect((await double.fetch("/v1/healthz")).status).toBe(200);
    await clientOf({ ...double, token: await double.issueToken() }).create();
  });

  test("loses the queue and the limits, and no row and no byte", async () => {
    await reopen({ settings: { limits: { list: { max: 1, windowMs: 60_000 } } } });
    const client = clientOf(double);
    await client.upload("text");
    await client.list();
    await expect(client.list()).rejects.toThrow(/429/);
    const { id } = await client.studio({ name: "n", type: "video", url: URL_A });
    double.faults.crash("fetchUrl.open");
    await double.work();
    await expect(client.list()).rejects.toThrow(Crashed);
    const before = await double.snapshot();
    await double.restart();
    expect(await double.snapshot()).toEqual(before);
    expect(await client.list()).toHaveLength(1);
    await double.work();
    // Nobody renews the lease of the dead: once it has lapsed, the sweep rings.
    expect(await client.studioArtifact(id)).toMatchObject({ status: "upload_started" });
    await double.advance("90s");
    expect(await client.studioArtifact(id)).toMatchObject({ status: "upload_completed" });
  });

  const EVERYWHERE: readonly PortCall[] = [
    "accounts.find",
    "artifacts.insert",
    "artifacts.get",
    "artifacts.status",
    "artifacts.update",
    "artifacts.findByDigest",
    "blobs.signPut",
    "blobs.serve",
    "blobs.stat",
    "blobs.copy",
    "blobs.delete",
  ];
  test.each(EVERYWHERE)("at every %s of the main job: trying again ends well", async (call) => {
    for (const when of ["before", "after"] as const) {
      for (let nth = 1; ; nth++) {
        await reopen({ settings: BRIEF });
        const fault = double.faults.crash(call, { nth, when });
        const upload = async (): Promise<unknown> => {
          const made = await clientOf(double).create();
          await clientOf(double).put(made.uploadUrl, "the one text");
          return clientOf(double).complete(made.uploadId);
        };
        const first = await upload().catch((error: unknown) => error);
        if (fault.fired === 0) {
          expect(nth).toBeGreaterThan(1);
          break;
        }
        expect(first).toBeInstanceOf(Crashed);
        await double.restart();
        expect(await upload()).toMatchObject([200, { size: 12 }]);
        expect(await clientOf(double).list()).toHaveLength(1);
        await double.advance("65m");
        // What the dead left behind is gone, and what was completed is there.
        expect((await double.snapshot()).blobs).toHaveLength(1);
      }
    }
  });
});

describe("a torn write", () => {
  test("of an upload is noticed where the client said what it sends", async () => {
    const client = clientOf(double);
    const { uploadUrl, uploadId } = await client.create({ size: 4 });
    const fault = double.faults.tear("blobs.serve", 3);
    expect(await client.put(uploadUrl, "text")).toBe(200);
    expect(fault).toMatchObject({ seen: 1, fired: 1 });
    expect((await client.complete(uploadId))[0]).toBe(422);
    expect(await client.put(uploadUrl, "text")).toBe(200);
    expect((await client.complete(uploadId))[0]).toBe(200);
  });

  test("of the final copy is never handed out, and is mended by the next upload of the same bytes", async () => {
    const client = clientOf(double);
    double.faults.tear("blobs.copy", 2);
    await client.upload("text");
    const url = async (): Promise<string> => String((await client.list())[0]?.["downloadUrl"]);
    const refused = await double.fetch(await url());
    expect([refused.status, await refused.text()]).toEqual([500, expect.not.stringMatching(/^te$/)]);
    await client.upload("text");
    expect(await (await double.fetch(await url())).text()).toBe("text");
  });

  test("of what the worker saves", async () => {
    const fault = double.faults.tear("blobs.put", 5);
    const { id } = await clientOf(double).studio({ name: "n", type: "video", url: URL_A });
    await double.work();
    expect(fault.fired).toBe(1);
    expect(await clientOf(double).studioArtifact(id)).not.toMatchObject({ status: "upload_completed" });
    await double.advance("1m");
    expect(await clientOf(double).studioArtifact(id)).toMatchObject({ status: "upload_completed" });
  });
});

test("a power cut takes uploads that were not completed, and nothing that was", async () => {
  const client = clientOf(double);
  const done = await client.upload("done");
  const { uploadUrl, uploadId } = await client.create();
  await client.put(uploadUrl, "not yet");
  expect(double.faults.dropUnsynced()).toBe(1);
  await double.restart();
  expect(double.faults.dropUnsynced()).toBe(0);
  expect((await client.complete(uploadId))[0]).toBe(409);
  await client.put(uploadUrl, "not yet");
  expect((await client.complete(uploadId))[0]).toBe(200);
  const listed = await client.list();
  expect(listed.map(({ id }) => id)).toContain(done["id"]);
  for (const { downloadUrl } of listed) expect((await double.fetch(String(downloadUrl))).status).toBe(200);
});
