/** What one company may know of another through the Studio face: nothing. And what its log lines tell: no secret. */

import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import type { HarnessOptions } from "./harness.ts";
import type { StudioHarness } from "./studio-harness.ts";
import { openStudioWorld } from "./studio-harness.ts";
import type { StudioClient, StudioErrorJson } from "./studio-target.ts";
import { ARTIFACTS, bearer, CREATE, openStudio, studioClient } from "./studio-target.ts";
import type { Answer } from "./target.ts";
import { answer, dockClient, requestToken, someBytes } from "./target.ts";

let target: StudioHarness;
let client: StudioClient;

async function open(options?: HarnessOptions): Promise<void> {
  ({ target, client } = await openStudioWorld(options));
  onTestFinished(() => target.close());
}

describe("tenants", () => {
  /** A dock of the same organisation, and a dock of another one. */
  let neighbours: readonly StudioClient[];

  beforeEach(async () => {
    await open();
    const { provisioning } = target;
    const organization = await provisioning.createOrganization("Globex");
    await provisioning.createDock("dock_globex", { organizationId: organization.id });
    neighbours = [
      await openStudio(target),
      studioClient(target, await target.operator.createKey({ name: "Hank", dockId: "dock_globex" })),
    ];
  });

  const finished = async (of: StudioClient) => {
    const { bytes, name } = await target.media("video");
    return of.finish({ name: "n", type: "video", url: await target.publish(bytes, name) });
  };

  test("an artifact is 404 to everybody else, exactly as one that never was", async () => {
    const { id } = await finished(client);
    expect((await client.get(id)).status).toBe(200);
    for (const neighbour of neighbours) {
      const [foreign, unknown] = [await neighbour.get(id), await neighbour.get("67a8f9b0c1d2e3f405060708")];
      expect(foreign).toMatchObject({ status: 404, body: { error: "Artifact not found", status: 404 } });
      expect(foreign.body).toEqual(unknown.body);
    }
  });

  test("only its own dock deletes an artifact, and then it is gone for good", async () => {
    const { id } = await finished(client);
    const remove = (of: StudioClient) => of.send(`${ARTIFACTS}/${id}`, { method: "DELETE" });
    for (const neighbour of neighbours) expect((await remove(neighbour)).status).toBe(404);
    expect((await client.get(id)).status).toBe(200);
    expect((await remove(client)).status).toBe(204);
    expect((await client.get(id)).status).toBe(404);
    expect((await remove(client)).status).toBe(404);
    expect((await client.list()).body.data).toEqual([]);
  });

  test("each lists its own", async () => {
    const everyone = [client, ...neighbours];
    const ids = [];
    for (const one of everyone) ids.push((await finished(one)).id);
    for (const [at, one] of everyone.entries()) {
      const { data, meta } = (await one.list()).body;
      expect(data.map(({ id }) => id)).toEqual([ids[at]]);
      expect(meta.total).toBe(1);
    }
  });

  test("company and creator are the key's own", async () => {
    const [, globex] = neighbours;
    expect((await finished(globex!)).company).toEqual({ id: expect.stringMatching(/^org_/), name: "Globex" });
    expect((await finished(client)).company?.name).toBe("Test organisation");
    expect((await finished(globex!)).createdBy).toEqual({ id: globex?.key.id, name: "Hank" });
  });

  test("a colleague sees the same dock, and who made what as far as it may", async () => {
    const colleague = await target.colleague(client, "Second editor");
    const mine = await finished(client);
    const { status, body } = await colleague.get(mine.id);
    expect(status).toBe(200);
    expect(body).toMatchObject({ id: mine.id, company: mine.company });
    expect(body.createdBy).toEqual(mine.createdBy);
    expect((await finished(colleague)).createdBy).toEqual({ id: colleague.key.id, name: "Second editor" });
  });

  test("a presigned path belongs to the company that asked for it", async () => {
    const { bytes, name } = await target.media("video");
    const s3Path = await client.upload(bytes, name);
    const body = { name: "n", type: "video", s3Path };
    for (const neighbour of neighbours) {
      expect(await neighbour.create(body)).toMatchObject({ status: 400, body: { status: 400 } });
      const fragments = [{ s3Path, startTime: 0 }];
      expect((await neighbour.create({ name: "n", type: "video", fragments })).status).toBe(400);
      // Nor does the path of somebody else lead to one's own uploads.
      const own = await neighbour.upload(bytes, name);
      expect((await client.create({ ...body, s3Path: own })).status).toBe(400);
    }
    expect((await client.finish(body)).status).toBe("upload_completed");
  });

  test("even with credentials, a foreign presigned path leads to the bucket of that name, not to the upload", async () => {
    const [neighbour] = neighbours;
    const { bytes, name } = await target.media("video");
    const s3Path = await client.upload(bytes, name);
    await target.attachCredentials(neighbour!.key.id, "{}");
    expect(await neighbour!.finish({ name: "n", type: "video", s3Path })).toMatchObject({
      status: "upload_failed",
      errorMessage: "The origin answered 404",
    });
  });

  test("credentials are the key's own: a colleague's key cannot use them", async () => {
    const s3Path = "s3://my-company-bucket/a.mp4";
    await target.attachCredentials(client.key.id, "of the first");
    target.sources.set(`${s3Path}#of the first`, "video:1000:x");
    const body = { name: "n", type: "video", s3Path };
    expect((await client.finish(body)).status).toBe("upload_completed");
    expect((await (await target.colleague(client, "c")).create(body)).status).toBe(400);
  });

  test("the faces of one dock do not show each other's artifacts", async () => {
    const { dock } = await target.docyard.openStudio(client.key.apiKey);
    const token = await requestToken(target, await target.operator.createClient({ dockId: dock.id }));
    const machine = dockClient(target, dock.id, token);
    const theirs = await machine.upload(someBytes());
    const ours = await finished(client);
    expect((await client.get(theirs.id)).status).toBe(404);
    expect((await client.list()).body.data.map(({ id }) => id)).toEqual([ours.id]);
    expect((await machine.list()).body.data.map(({ id }) => id)).toEqual([theirs.id]);
    const direct = await target.fetch(`${machine.path}/${ours.id}`, { headers: bearer(token) });
    expect(direct.status).toBe(404);
  });

  test("equal bytes in two docks are two files", async () => {
    const { bytes, name } = await target.media("video");
    const url = await target.publish(bytes, name);
    const body = { name: "n", type: "video", url };
    const [one, two] = [await client.finish(body), await neighbours[0]!.finish(body)];
    expect([one.status, two.status]).toEqual(["upload_completed", "upload_completed"]);
    const keys = (await target.blobs.list("docks/", { limit: 10 })).map(({ key }) => key);
    expect(keys).toHaveLength(2);
  });
});

describe("log lines", () => {
  const SECRET = "s3cr3t-of-the-source";
  const SOURCE = `https://cdn.example.com/film.mp4?X-Amz-Signature=${SECRET}&token=${SECRET}`;
  const credentials = JSON.stringify({ accessKeyId: "AKIDEXAMPLE", secretAccessKey: SECRET });

  /** Everything that must not be told, and everything that a key says of a request. */
  const expectNoSecret = (...secrets: readonly (string | undefined)[]): void => {
    const text = target.lines.map((line) => JSON.stringify(line)).join("\n");
    const never = [client.key.apiKey, SECRET, "signature=", "X-Amz-", "film.mp4", "secretAccessKey"];
    for (const secret of [...never, ...secrets]) {
      expect(secret).toMatch(/./);
      expect(text).not.toContain(secret);
    }
  };

  test("a whole life of an artifact leaves only ids, routes and figures", async () => {
    await open();
    target.sources.set(SOURCE, "video:1000:x");
    const s3Path = await client.upload(new TextEncoder().encode("video:2000:y"), "film.mp4");
    const upload = (await client.presign("film.mp4")).body;
    const fetched = await client.finish({ name: "Private name", type: "video", url: SOURCE });
    const uploaded = await client.finish({ name: "Private name", type: "video", s3Path });
    await target.attachCredentials(client.key.id, credentials);
    const failed = await client.finish({ name: "n", type: "video", s3Path: "s3://their-bucket/film.mp4" });
    expect([fetched.status, uploaded.status, failed.status]).toEqual([
      "upload_completed",
      "upload_completed",
      "upload_failed",
    ]);
    await target.fetch(fetched.downloadUrl ?? "");
    await client.list();
    await client.get("unknown");
    // A key where an id or a file name belongs.
    await client.get(client.key.apiKey);
    await client.presign(client.key.apiKey);
    await target.fetch(ARTIFACTS, { headers: bearer(`${client.key.apiKey}x`) });
    await client.create({ name: 1, url: SOURCE });
    await client.create({ name: "n", type: "video", url: SOURCE.replace("https", "gopher") });

    expect(target.lines.length).toBeGreaterThan(15);
    const signatures = [upload.presignedUploadUrl, fetched.downloadUrl].map(
      (url) => new URL(url ?? "").searchParams.get("signature") ?? undefined,
    );
    expectNoSecret(upload.s3Path, fetched.downloadUrl, "Private name", "their-bucket", ...signatures);
    const created = target.lines.find(({ fields }) => fields["artifactId"] === fetched.id);
    expect(created?.fields).toMatchObject({
      method: "POST",
      route: CREATE,
      status: 201,
      principalId: client.key.id,
      requestId: expect.stringMatching(/./),
    });
  });

  test("nor do answers about failures, and a fault's own words are kept from the client", async () => {
    const words = `put https://u:${SECRET}@bucket.example.com/film.mp4?X-Amz-Signature=${SECRET} failed`;
    await open({
      blobs: (blobs) => ({
        ...blobs,
        signPut: async () => {
          throw new Error(`${words} for Bearer ${client.key.apiKey}`);
        },
      }),
    });
    const answered = (await client.presign("film.mp4")) as unknown as Answer<StudioErrorJson>;
    expect(answered.status).toBe(500);
    const message = "Internal server error";
    expect(answered.body).toEqual({ error: message, message, status: 500 });
    const line = target.lines.find(({ level }) => level === "error");
    expect(line?.fields).toMatchObject({ code: "internal", requestId: expect.stringMatching(/./) });
    const text = JSON.stringify(target.lines);
    expect(text).toContain("failed");
    for (const secret of [SECRET, client.key.apiKey]) expect(text).not.toContain(secret);
  });

  test("no answer tells a source's query string or credentials", async () => {
    await open();
    await target.attachCredentials(client.key.id, credentials);
    const bodies = [
      { name: "n", type: "video", url: SOURCE },
      { name: "n", type: "video", url: SOURCE.replace("https://", `https://u:${SECRET}@`) },
      { name: "n", type: "video", url: SOURCE.replace("https", "gopher") },
      { name: "n", type: "video", s3Path: "s3://their-bucket/film.mp4" },
      { name: "n", type: "video", fragments: [{ url: SOURCE, startTime: 0 }] },
    ];
    for (const body of bodies) {
      const created = await answer<object>(
        client.send(CREATE, { method: "POST", body: JSON.stringify(body) }),
      );
      expect(JSON.stringify(created.body)).not.toContain(SECRET);
    }
    await target.settle();
    expect(JSON.stringify((await client.list()).body)).not.toContain(SECRET);
    expect((await client.list()).body.meta.total).toBe(3);
  });
});
