/** Artifacts over time on the Studio face: the steps of the background work, what is listed, and what can be had of it. */

import { DocyardError } from "@docyard/core";
import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import type { StudioHarness } from "./studio-harness.ts";
import { openStudioWorld, UNLIMITED } from "./studio-harness.ts";
import type { StudioArtifact, StudioClient, StudioErrorJson } from "./studio-target.ts";
import { ARTIFACTS } from "./studio-target.ts";
import { answer } from "./target.ts";

const HOUR_MS = 3_600_000;
const URL_A = "https://cdn.example.com/promo.mp4";

let target: StudioHarness;
let client: StudioClient;

beforeEach(async () => {
  ({ target, client } = await openStudioWorld({ settings: UNLIMITED }));
  onTestFinished(() => target.close());
});

const create = async (over: object = {}): Promise<StudioArtifact> =>
  (await client.create({ name: "n", type: "video", url: URL_A, ...over })).body;

describe("steps", () => {
  test("81, 87. created, started while a source is tried again, completed", async () => {
    let calls = 0;
    target.sources.set(URL_A, () =>
      ++calls < 3 ? new DocyardError("upstream_failed", "The origin answered 503") : "video:138301:promo",
    );
    const { id, createdAt } = await create();
    const seen: StudioArtifact[] = [(await client.get(id)).body];
    while (target.rings.length > 0) {
      await target.step();
      seen.push((await client.get(id)).body);
    }
    expect(seen.map(({ status }) => status)).toEqual([
      "created",
      "upload_started",
      "upload_started",
      "upload_completed",
    ]);
    const unfinished = { size: null, duration: null, errorMessage: null };
    for (const body of seen.slice(0, -1)) {
      expect(body).toMatchObject(unfinished);
      expect(body).not.toHaveProperty("downloadUrl");
      expect(body).not.toHaveProperty("expiresAt");
    }
    expect(seen.at(-1)).toMatchObject({ size: 18, duration: 138.301, errorMessage: null, createdAt });
    const updates = seen.map(({ updatedAt }) => Date.parse(updatedAt));
    expect(updates).toEqual(updates.toSorted((a, b) => a - b));
    expect(updates.at(-1)).toBeGreaterThan(updates[0]!);
  });

  test("87. a source that stays away fails for good, and says how often it was tried", async () => {
    target.sources.set(URL_A, new DocyardError("upstream_failed", "The origin answered 503"));
    const { id } = await create();
    await target.settle();
    const { body } = await client.get(id);
    expect(body).toMatchObject({
      status: "upload_failed",
      size: null,
      duration: null,
      errorMessage: "The origin answered 503 (tried 5 times)",
    });
    await target.docyard.ingest(id);
    expect((await client.get(id)).body).toEqual(body);
  });

  test("84. fragments are joined in the order of startTime, whatever their order in the request", async () => {
    for (const part of ["intro", "main", "outro"])
      target.sources.set(`https://e.com/${part}`, `video:1500:${part}`);
    const fragments = [
      { url: "https://e.com/outro", startTime: 300 },
      { url: "https://e.com/intro", startTime: 0 },
      { url: "https://e.com/main", startTime: 1.5 },
    ];
    const joined = await client.finish({ name: "Joined", type: "video", fragments });
    expect(joined).toMatchObject({ uploadMethod: "fragments", duration: 4.5 });
    expect(await (await target.fetch(joined.downloadUrl ?? "")).text()).toBe("video:4500:intro+main+outro");
  });

  test("86. an external s3Path is opened with the key's credentials", async () => {
    const s3Path = "s3://my-company-bucket/recordings/meeting-2024.mp4";
    await target.attachCredentials(client.key.id, "the credentials");
    target.sources.set(`${s3Path}#the credentials`, "video:9000:meeting");
    const done = await client.finish({ name: "Archive", type: "video", s3Path });
    expect(done).toMatchObject({ status: "upload_completed", uploadMethod: "direct_url", duration: 9 });
    expect(done.s3Path).not.toContain("my-company-bucket");
  });

  test("an upload may be sent again until it is taken, and can change nothing afterwards", async () => {
    const { s3Path, presignedUploadUrl } = (await client.presign("a.mp4")).body;
    const put = (text: string): Promise<Response> =>
      target.fetch(presignedUploadUrl, { method: "PUT", body: text });
    await put("video:1000:first");
    await put("video:2000:second");
    const done = await client.finish({ name: "n", type: "video", s3Path });
    expect(done.duration).toBe(2);
    await put("video:3000:third");
    const { body } = await client.get(done.id);
    expect(await (await target.fetch(body.downloadUrl ?? "")).text()).toBe("video:2000:second");
    // The same upload may become a second artifact: the path is the client's as long as it lasts.
    expect((await client.finish({ name: "again", type: "video", s3Path })).duration).toBe(3);
  });

  test("a presigned upload dies after a day", async () => {
    const { presignedUploadUrl } = (await client.presign("a.mp4")).body;
    const put = (): Promise<Response> => target.fetch(presignedUploadUrl, { method: "PUT", body: "x" });
    target.clock.advance(24 * HOUR_MS - 1_000);
    expect((await put()).status).toBe(200);
    target.clock.advance(2_000);
    expect((await put()).status).toBe(403);
  });
});

describe("downloads", () => {
  test("the URL lives an hour from the request, each time", async () => {
    target.sources.set(URL_A, "video:1000:x");
    const { id } = await client.finish({ name: "Ünïcode film", type: "video", url: URL_A });
    const first = (await client.get(id)).body;
    expect(Date.parse(first.expiresAt ?? "")).toBe(target.clock.now() + HOUR_MS);
    const response = await target.fetch(first.downloadUrl ?? "");
    expect(await response.text()).toBe("video:1000:x");
    expect(response.headers.get("content-disposition")).toMatch(/^attachment/);
    target.clock.advance(HOUR_MS + 1_000);
    expect((await target.fetch(first.downloadUrl ?? "")).status).toBe(403);
    const second = (await client.list()).body.data[0];
    expect((await target.fetch(second?.downloadUrl ?? "")).status).toBe(200);
  });
});

describe("list", () => {
  test("pages hold every artifact exactly once, newest first", async () => {
    const ids: string[] = [];
    for (let i = 0; i < 25; i++) {
      ids.unshift((await create({ name: `n${i}` })).id);
      if (i % 3 === 0) target.clock.advance(1);
    }
    const walked: string[] = [];
    for (let page = 1, hasMore = true; hasMore; page++) {
      const { data, meta } = (await client.list(`?limit=10&page=${page}`)).body;
      walked.push(...data.map(({ id }) => id));
      expect(meta).toEqual({ total: 25, page, pageSize: 10, hasMore: page < 3 });
      ({ hasMore } = meta);
    }
    expect(walked).toEqual(ids);
    const { data, meta } = (await client.list()).body;
    expect(data.map(({ id }) => id)).toEqual(ids.slice(0, 20));
    expect(meta).toEqual({ total: 25, page: 1, pageSize: 20, hasMore: true });
    expect((await client.list("?page=9")).body).toEqual({
      data: [],
      meta: { total: 25, page: 9, pageSize: 20, hasMore: false },
    });
  });

  test("shows each item as get does, in every status", async () => {
    target.sources.set(URL_A, "video:1000:x");
    await create();
    await target.settle();
    await create({ type: "audio", url: "https://e.com/gone.mp3" });
    await target.settle();
    await create({ type: "script" });
    const { data } = (await client.list()).body;
    expect(data.map(({ status }) => status)).toEqual(["created", "upload_failed", "upload_completed"]);
    for (const item of data) expect((await client.get(item.id)).body).toEqual(item);

    const names = async (query: string) => (await client.list(query)).body.data.map(({ type }) => type);
    expect(await names("?status=upload_failed")).toEqual(["audio"]);
    expect(await names("?type=script")).toEqual(["script"]);
    expect(await names("?type=video&status=upload_completed")).toEqual(["video"]);
    expect(await names("?type=video&status=created")).toEqual([]);
    expect(await names("?unknown=x")).toHaveLength(3);
    expect((await client.list("?type=audio&limit=1")).body.meta).toMatchObject({ total: 1, hasMore: false });
  });

  test.each([
    ["page=0", "page must be an integer of at least 1"],
    ["page=-1", "page must be an integer of at least 1"],
    ["page=1.5", "page must be an integer of at least 1"],
    ["page=", "page must be an integer of at least 1"],
    ["page=9007199254740991", "page is beyond any list"],
    ["limit=0", "limit must be an integer of at least 1"],
    ["limit=ten", "limit must be an integer of at least 1"],
    ["status=deleted", "status must be one of created, upload_started, upload_completed, upload_failed"],
    ["status=", "status must be one of created, upload_started, upload_completed, upload_failed"],
    ["type=image", "type must be one of video, audio, script"],
    ["type=video&type=audio", "type must be given once"],
    ["page=0&type=x", "type must be one of video, audio, script; page must be an integer of at least 1"],
  ])("%s is 400", async (query, message) => {
    const answered = await answer<StudioErrorJson>(client.send(`${ARTIFACTS}?${query}`));
    expect(answered).toMatchObject({ status: 400, body: { error: message, message, status: 400 } });
  });

  test("a limit above the largest page is that page", async () => {
    expect((await client.list("?limit=5000")).body.meta.pageSize).toBe(1_000);
    expect((await client.list("?limit=5000&page=2")).body.meta).toMatchObject({ page: 2, pageSize: 1_000 });
  });
});
