/** What the list's query and the extensions do beyond the vendor's pages: dates, status, cursor, get, delete. */

import { beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import type { Harness } from "./harness.ts";
import { openHarness } from "./harness.ts";
import type { Answer, ErrorJson, ListedJson, World } from "./target.ts";
import { answer, openWorld, requestToken, someBytes } from "./target.ts";

let harness: Harness;
let world: World;

beforeEach(async () => {
  harness = await openHarness();
  onTestFinished(() => harness.close());
  world = await openWorld(harness);
});

type StatedJson = ListedJson & { readonly status: string; readonly errorMessage: string | null };

function one(id: string, method = "GET"): Promise<Answer<StatedJson>> {
  return answer(
    harness.fetch(`${world.rw.path}/${id}`, {
      method,
      headers: { Authorization: `Bearer ${world.rw.token}` },
    }),
  );
}

describe("the list's query is read strictly", () => {
  test.each([
    ["limit=0", "limit must be an integer of at least 1"],
    ["limit=-1", "limit must be an integer of at least 1"],
    ["limit=ten", "limit must be an integer"],
    ["limit=", "limit must be an integer"],
    ["limit=1.5", "limit must be an integer"],
    ["limit=1e2", "limit must be an integer"],
    ["limit=%2B1", "limit must be an integer"],
    ["offset=-1", "offset must be an integer of at least 0"],
    ["limit=1&limit=2", "limit must be given once"],
    ["metadata=", "metadata must not be empty"],
    ["metadata=x", 'metadata must be a JSON object, for example {"patientId":"12345"}'],
    ["metadata=[]", 'metadata must be a JSON object, for example {"patientId":"12345"}'],
    ['metadata={"a":1,"a":2}', 'metadata gives the key "a" twice'],
    ['metadata="a":1,"a":2', 'metadata gives the key "a" twice'],
    ["metadata={}&metadata={}", "metadata must be given once"],
    ["search=%00", "search must not contain NUL"],
    [`search=${"x".repeat(256)}`, "search must be at most 255 characters"],
    ["cursor=nonsense", "cursor must be a nextCursor of an earlier page"],
    ["status=", /^status must be one or more of created, upload_started/],
    ["status=deleted", /^status must be/],
    ["status=created,created,x", /^status must be/],
    ...[
      "yesterday",
      "",
      "2024",
      "2024-13-01",
      "2024-02-30",
      "2024-03-01T25:00:00Z",
      "2024-03-01T00:00:60Z",
    ].map((text): [string, RegExp] => [`createdAfter=${text}`, /^createdAfter must be an ISO 8601 date/]),
    ...["2024-03-01T00:00:00+24:00", "1709251200", "+002024-03-01", "2024-03-01T00", "2024-03-01Z"].map(
      (text): [string, RegExp] => [`createdBefore=${text}`, /^createdBefore must be an ISO 8601 date/],
    ),
  ])("%s is 400", async (query, message) => {
    const { status, body } = (await world.r.list(`?${query}`)) as unknown as Answer<ErrorJson>;
    expect(status).toBe(400);
    expect(body.message).toEqual([expect.stringMatching(message)]);
  });

  test("all faults are named at once", async () => {
    const { body } = (await world.r.list("?limit=x&offset=y&createdAfter=z")) as unknown as Answer<ErrorJson>;
    expect(body.message).toHaveLength(3);
  });

  test("cursor and offset exclude each other", async () => {
    expect((await world.r.list("?cursor=x&offset=1")).status).toBe(400);
  });

  test("unknown parameters are ignored, also twice", async () => {
    expect((await world.r.list("?page=3&page=4&sort=name&&=")).status).toBe(200);
  });

  test("a refused query does not use up the rate limit", async () => {
    for (let i = 0; i < 150; i++) expect((await world.r.list("?limit=x")).status).toBe(400);
    expect((await world.r.list()).status).toBe(200);
  });
});

describe("dates", () => {
  test.each([
    // The clock stands at 2026-03-01T12:00:00.000Z: what was created then is there exactly for times up to that.
    ["2026-03-01", 1],
    ["2026-03-02", 0],
    ["2026-03-01T12:00", 1],
    ["2026-03-01T12:00:00", 1],
    ["2026-03-01T12:00:00Z", 1],
    ["2026-03-01t12:00:00z", 1],
    ["2026-03-01 12:00:00Z", 1],
    ["2026-03-01T12:00:00.000Z", 1],
    ["2026-03-01T12:00:00,000Z", 1],
    ["2026-03-01T12:00:00.001Z", 0],
    ["2026-03-01T12:00:00.000000Z", 1],
    ["2026-03-01T12:00:00.000001Z", 0],
    ["2026-03-01T12:00:00.0000001", 0],
    ["2026-03-01T14:00:00+02:00", 1],
    ["2026-03-01T14:00:00%2B02:00", 1],
    ["2026-03-01T14:00:00.001+02:00", 0],
    ["2026-03-01T14:00:00%2B0200", 1],
    ["2026-03-01T14:00:00%2B02", 1],
    ["2026-03-01T06:30:00-05:30", 1],
    ["2026-03-01T06:30:00.001-05:30", 0],
    ["0000-01-01", 1],
    ["0099-12-31T23:59:59Z", 1],
    ["9999-12-31T23:59:59.999Z", 0],
  ])("createdAfter=%s", async (text, total) => {
    await world.w.upload(someBytes());
    expect((await world.r.list(`?createdAfter=${text}`)).body.meta.total).toBe(total);
    expect((await world.r.list(`?createdBefore=${text}`)).body.meta.total).toBe(1 - total);
  });

  test("windows that meet share nothing and miss nothing", async () => {
    await world.w.upload(someBytes());
    const at = "2026-03-01T12:00:00.000Z";
    expect((await world.r.list(`?createdBefore=${at}`)).body.meta.total).toBe(0);
    expect((await world.r.list(`?createdAfter=${at}`)).body.meta.total).toBe(1);
  });
});

describe("extensions", () => {
  test("status= widens the list, and shows what each item is", async () => {
    const done = await world.w.upload(someBytes());
    harness.clock.advance(1);
    const { body: open } = await world.w.create({ filename: "open.txt" });
    const { data, meta } = (await world.r.list("?status=created,upload_completed")).body;
    expect(meta.total).toBe(2);
    expect(data).toMatchObject([
      { id: open.id, status: "created", downloadUrl: null, expiresAt: null, size: null, hash: null },
      { id: done.id, status: "upload_completed", downloadUrl: expect.any(String) },
    ]);
    expect((await world.r.list("?status=upload_failed")).body.meta.total).toBe(0);
  });

  test("a cursor walks on without repeats while new artifacts arrive", async () => {
    const ids: string[] = [];
    for (let i = 0; i < 5; i++) {
      ids.unshift((await world.w.upload(someBytes())).id);
      harness.clock.advance(1);
    }
    const walked: string[] = [];
    let query = "?limit=2";
    for (let page = 0; page < 3; page++) {
      const { data, meta } = (await world.r.list(query)).body;
      walked.push(...data.map(({ id }) => id));
      await world.w.upload(someBytes());
      query = `?limit=2&cursor=${meta.nextCursor}`;
      expect(meta.nextCursor === null).toBe(page === 2);
    }
    expect(walked).toEqual(ids);
  });

  test("a single artifact can be had, whatever its status", async () => {
    const { body: open } = await world.w.create({ filename: "open.txt" });
    expect((await one(open.id)).body).toMatchObject({ id: open.id, status: "created", downloadUrl: null });
    const bytes = someBytes();
    const done = await world.w.upload(bytes);
    const { status, body } = await one(done.id);
    expect(status).toBe(200);
    expect(body).toMatchObject({ id: done.id, status: "upload_completed", errorMessage: null });
    expect(new Uint8Array(await (await harness.fetch(body.downloadUrl)).arrayBuffer())).toEqual(bytes);
  });

  test("an upload that ran out says so", async () => {
    const { body: created } = await world.w.create({ filename: "a" });
    harness.clock.advance(24 * 3_600_000);
    await harness.docyard.sweep();
    const token = await requestToken(harness, world.client);
    const response = await harness.fetch(`${world.rw.path}/${created.id}`, {
      headers: { Authorization: `Bearer ${token}` },
    });
    expect(await response.json()).toMatchObject({
      status: "upload_failed",
      errorMessage: "The upload was not completed before its window ended",
      downloadUrl: null,
    });
  });

  test("delete: 204, then gone from list, get, download and complete", async () => {
    const done = await world.w.upload(someBytes());
    const url = (await world.r.list()).body.data[0]?.downloadUrl ?? "";
    expect(await one(done.id, "DELETE")).toMatchObject({ status: 204, body: undefined });
    expect((await world.r.list()).body.meta.total).toBe(0);
    expect((await one(done.id)).status).toBe(404);
    expect((await one(done.id, "DELETE")).status).toBe(404);
    expect((await harness.fetch(url)).status).toBe(404);
    expect((await world.w.complete({ uploadId: done.uploadId })).status).toBe(404);
  });

  test("the same content may be stored again after a delete", async () => {
    const bytes = someBytes();
    const first = await world.w.upload(bytes);
    await one(first.id, "DELETE");
    const second = await world.w.upload(bytes);
    expect(second).toMatchObject({ isDuplicate: false });
    expect(second.id).not.toBe(first.id);
  });
});

test("ids that cannot exist never reach the store, which may not take every character", async () => {
  const artifacts = vi.spyOn(harness.store.artifacts, "get");
  const accounts = vi.spyOn(harness.store.accounts, "find");
  const odd = ["%00", "a%00b", "%ff", "a%2Fb", "x".repeat(100)];
  for (const id of odd) {
    expect((await one(id)).status).toBe(404);
    expect((await one(id, "DELETE")).status).toBe(404);
    const path = `/v1/machine/docks/${id}/artifacts`;
    const headers = { Authorization: `Bearer ${world.org.token}` };
    expect((await harness.fetch(path, { headers })).status).toBe(404);
  }
  const asked = JSON.stringify([artifacts.mock.calls, accounts.mock.calls]);
  expect(asked).toContain(world.dockId);
  for (const id of [...odd, "\\u0000", "a/b"]) expect(asked).not.toContain(id);
  vi.restoreAllMocks();
});

describe("complete", () => {
  test.each([
    [{}, ["uploadId must be a string"]],
    [{ uploadId: 1 }, ["uploadId must be a string"]],
    [{ uploadId: "" }, ["uploadId must be the uploadId of a create response"]],
    [{ uploadId: "art_1" }, ["uploadId must be the uploadId of a create response"]],
    [{ uploadId: "upload_a/b" }, ["uploadId must be the uploadId of a create response"]],
    [{ uploadId: "upload_1", s3Key: 1 }, ["s3Key must be a string"]],
  ])("%j is 400", async (body, message) => {
    expect(await world.w.complete(body)).toMatchObject({ status: 400, body: { statusCode: 400, message } });
  });

  test("an unknown upload is 404, a wrong s3Key 400, no bytes 409, null is absent", async () => {
    const { body } = await world.w.create({ filename: "a", size: null, hash: null, metadata: null });
    const { uploadId } = body;
    expect((await world.w.complete({ uploadId: "upload_01ARZ3NDEKTSV4RRFFQ69G5FAV" })).status).toBe(404);
    expect((await world.w.complete({ uploadId, s3Key: "docks/other" })).status).toBe(400);
    expect(await world.w.complete({ uploadId, s3Key: null })).toMatchObject({
      status: 409,
      body: { statusCode: 409, error: "Conflict" },
    });
  });

  test("a PUT after complete changes nothing and says so", async () => {
    const bytes = someBytes();
    const { body } = await world.w.create({ filename: "a" });
    await world.w.put(body.uploadUrl, bytes);
    await world.w.complete({ uploadId: body.uploadId });
    expect((await world.w.put(body.uploadUrl, someBytes())).status).toBe(409);
    const url = (await world.r.list()).body.data[0]?.downloadUrl ?? "";
    expect(new Uint8Array(await (await harness.fetch(url)).arrayBuffer())).toEqual(bytes);
  });

  test("is 202 where the store cannot attest a digest, 200 once it can", async () => {
    const slow = await openHarness({
      blobs: (blobs) => ({
        ...blobs,
        async stat(key) {
          const info = await blobs.stat(key);
          return info === null ? null : { ...info, digest: null };
        },
      }),
    });
    onTestFinished(() => slow.close());
    const { w } = await openWorld(slow);
    const { body } = await w.create({ filename: "a" });
    await w.put(body.uploadUrl, someBytes());
    const completed = await w.complete({ uploadId: body.uploadId });
    expect(completed.status).toBe(202);
    expect(completed.body).toMatchObject({ id: body.id, uploadId: body.uploadId, hash: null });
  });
});

describe("create", () => {
  test.each([
    ["a/b"],
    ["a\\b"],
    [""],
    ["a\0b"],
    ["a\nb"],
    [".."],
    ["\ud800"],
    ["x".repeat(256)],
    ["a\u202eb"],
  ])("filename %j is 400", async (filename) => {
    const { status, body } = await world.w.create({ filename });
    expect(status).toBe(400);
    expect(body).toMatchObject({ message: [expect.stringMatching(/^filename /)] });
  });

  test.each([
    [{ size: -1 }, /^size /],
    [{ size: 1.5 }, /^size /],
    [{ size: true }, /^size /],
    [{ hash: "abc" }, /^hash /],
    [{ hash: `md5:${"a".repeat(64)}` }, /^hash /],
    [{ hash: 7 }, /^hash /],
    [{ contentType: "text" }, /^contentType /],
    [{ contentType: "text/plain\r\nX: y" }, /^contentType /],
    [{ contentType: "text/plain\r\n;x=y" }, /^contentType /],
    [{ contentType: `text/plain${" ".repeat(400)};x=y` }, /^contentType /],
    [{ contentType: 7 }, /^contentType /],
    [{ metadata: [] }, /^metadata /],
    [{ metadata: { a: "x".repeat(70_000) } }, /^metadata /],
  ])("%j is 400", async (change, message) => {
    const { status, body } = await world.w.create({ filename: "a", ...change });
    expect(status).toBe(400);
    expect(body).toMatchObject({ message: [expect.stringMatching(message)] });
  });

  test("all faults are named at once", async () => {
    const { body } = await world.w.create({ filename: "", size: -1, hash: "x" });
    expect(body).toMatchObject({ message: [expect.anything(), expect.anything(), expect.anything()] });
  });

  test("unknown fields are dropped, and a prototype is not polluted", async () => {
    const response = await harness.fetch(world.w.path, {
      method: "POST",
      headers: { Authorization: `Bearer ${world.w.token}` },
      body: '{"filename":"a","id":"art_mine","isDuplicate":true,"metadata":{"__proto__":{"x":1},"constructor":2}}',
    });
    expect(response.status).toBe(201);
    const text = await response.text();
    expect(text).toContain('"metadata":{"__proto__":{"x":1},"constructor":2}');
    expect(text).not.toContain("art_mine");
    expect({}).not.toHaveProperty("x");
  });

  test("headers that a signed PUT needs are handed out", async () => {
    const harness = await openHarness({
      blobs: (blobs) => ({
        ...blobs,
        signPut: async (key, options) => ({
          ...(await blobs.signPut(key, options)),
          headers: { "x-amz-checksum-sha256": "abc" },
        }),
      }),
    });
    onTestFinished(() => harness.close());
    const { w } = await openWorld(harness);
    expect((await w.create({ filename: "a" })).body).toHaveProperty("uploadHeaders", {
      "x-amz-checksum-sha256": "abc",
    });
  });
});
