/**
 * The machine face's black-box tests 1 to 62 (contract 5), each under its number, against any `Target`.
 * The two that wait for something to expire need a clock to turn and are in `machine-expiry-cases.ts`.
 */

import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { ErrorJson, ListJson, Target, World } from "./target.ts";
import { answer, dockClient, openWorld, sha256, someBytes } from "./target.ts";

const HOUR_MS = 3_600_000;
const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

export function machineCases(name: string, open: () => Promise<Target>): void {
  describe(`machine face on ${name}`, () => {
    let target: Target;
    let world: World;

    beforeAll(async () => {
      target = await open();
    });
    afterAll(async () => {
      await target.close();
    });
    beforeEach(async () => {
      world = await openWorld(target);
    });

    const now = (): number => target.clock?.now() ?? Date.now();
    const pause = async (ms: number): Promise<void> => {
      if (target.clock === undefined) await new Promise((resolve) => setTimeout(resolve, ms));
      else target.clock.advance(ms);
    };
    const bearer = (token: string): Record<string, string> => ({ Authorization: `Bearer ${token}` });
    const total = async (query = ""): Promise<number> => (await world.r.list(query)).body.meta.total;
    const post = (body: string, headers: Record<string, string> = bearer(world.w.token)) =>
      answer<ErrorJson>(target.fetch(world.w.path, { method: "POST", headers, body }));
    const fill = async (count: number): Promise<string[]> => {
      const ids: string[] = [];
      for (let i = 0; i < count; i++) {
        ids.push((await world.w.upload(someBytes(), { filename: `file-${i}.txt` })).id);
        await pause(1);
      }
      return ids;
    };

    describe("create", () => {
      test("1-7. a filename is enough; the answer has every documented key", async () => {
        const { status, body } = await world.w.create({ filename: "a.pdf" });
        expect(status).toBe(201);
        expect(body.id).toMatch(/^art_/);
        expect(body).toMatchObject({ dockId: world.dockId, filename: "a.pdf", isDuplicate: false });
        expect(["http:", "https:"]).toContain(new URL(body.uploadUrl).protocol);
        expect(body.uploadId).toMatch(/^upload_./);
        expect(body.createdAt).toMatch(ISO);
        expect(body.updatedAt).toMatch(ISO);
        expect(Object.keys(body).sort()).toEqual(
          (
            "id dockId filename contentType size hash storageKey metadata isDuplicate createdAt updatedAt " +
            "uploadUrl uploadId"
          )
            .split(" ")
            .sort(),
        );
        expect(body.storageKey.startsWith(`docks/${world.dockId}/artifacts/`)).toBe(true);
        expect(body).toMatchObject({ size: null, hash: null, metadata: {} });
      });

      test("8. contentType is detected from the extension", async () => {
        const typeOf = async (filename: string) => (await world.w.create({ filename })).body.contentType;
        expect(await typeOf("a.pdf")).toBe("application/pdf");
        expect(await typeOf("A.PDF")).toBe("application/pdf");
        expect(await typeOf("pdf")).toBe("application/octet-stream");
        expect(await typeOf("a.unheard-of")).toBe("application/octet-stream");
        expect(await typeOf("a.constructor")).toBe("application/octet-stream");
      });

      test("9. an explicit contentType is echoed", async () => {
        const { body } = await world.w.create({ filename: "a.pdf", contentType: "text/plain" });
        expect(body.contentType).toBe("text/plain");
      });

      test("10. size is echoed", async () => {
        expect((await world.w.create({ filename: "a.pdf", size: 245_760 })).body.size).toBe(245_760);
      });

      test("11. nested metadata comes back deep-equal", async () => {
        const metadata = { a: { b: [1, "2", null, { c: true }] }, ключ: "значение", __proto__x: 1.5 };
        expect((await world.w.create({ filename: "a.pdf", metadata })).body.metadata).toEqual(metadata);
      });

      test("12. a bare hash of unseen content is normalised", async () => {
        const hex = sha256(someBytes());
        const { body } = await world.w.create({ filename: "a.pdf", hash: hex.toUpperCase() });
        expect(body).toMatchObject({ isDuplicate: false, hash: `sha256:${hex}` });
      });

      test("13. two creates without hash are two artifacts", async () => {
        const [one, two] = [await world.w.create({ filename: "a" }), await world.w.create({ filename: "a" })];
        expect(one.body.id).not.toBe(two.body.id);
        expect(one.body.uploadId).not.toBe(two.body.uploadId);
      });

      test.each([
        ["14. empty object", "{}", ["filename must be a string"]],
        ["15. malformed JSON", '{"filename":', expect.stringMatching(/not valid JSON/)],
        ["16. filename a number", '{"filename":1}', ["filename must be a string"]],
        ["17. metadata a string", '{"filename":"a","metadata":"x"}', ["metadata must be an object"]],
        ["18. size a string", '{"filename":"a","size":"abc"}', ["size must be an integer number of bytes"]],
      ])("%s is 400", async (_name, body, message) => {
        const { status, body: error } = await post(body);
        expect(status).toBe(400);
        expect(error).toEqual({ statusCode: 400, message, error: "Bad Request" });
      });

      test("19. no Authorization is 401", async () => {
        const { status, body, headers } = await post('{"filename":"a"}', {});
        expect(status).toBe(401);
        expect(body).toMatchObject({ statusCode: 401, error: "Unauthorized" });
        expect(headers.get("www-authenticate")).toMatch(/^Bearer/);
      });

      test("20. a garbage token is 401", async () => {
        expect(await post('{"filename":"a"}', bearer("garbage"))).toMatchObject({
          status: 401,
          body: { statusCode: 401, message: "Invalid or expired token", error: "Unauthorized" },
        });
      });

      test("22. a read token is 403, in the vendor's words", async () => {
        const { status, body } = await world.r.create({ filename: "a.pdf" });
        expect(status).toBe(403);
        expect(body).toEqual({
          statusCode: 403,
          message: "Insufficient scope. Required: artifacts:write",
          error: "Forbidden",
        });
      });

      test("23. another dock is 403, in the vendor's words", async () => {
        const { status, body } = await dockClient(target, world.otherDockId, world.w.token).create({
          filename: "a.pdf",
        });
        expect(status).toBe(403);
        expect(body).toEqual({
          statusCode: 403,
          message: `Access denied to dock ${world.otherDockId}`,
          error: "Forbidden",
        });
      });

      test("24. an unknown dock is 404 for an organisation-wide client", async () => {
        const unknown = await dockClient(target, "dock_unknown", world.org.token).create({ filename: "a" });
        expect(unknown).toMatchObject({ status: 404, body: { statusCode: 404, error: "Not Found" } });
        expect((await world.org.create({ filename: "a" })).status).toBe(201);
      });

      test("25. a size above the limit is 409", async () => {
        for (const size of [target.sizeMax + 1, 2 ** 53, 1e17]) {
          expect(await world.w.create({ filename: "a", size })).toMatchObject({
            status: 409,
            body: { statusCode: 409, error: "Conflict" },
          });
        }
        expect((await world.w.create({ filename: "a", size: target.sizeMax })).status).toBe(201);
      });

      test("26. statusCode equals the status, whatever failed", async () => {
        const answers = await Promise.all([
          post("{}"),
          post("{}", {}),
          world.r.create({}),
          dockClient(target, "dock_unknown", world.org.token).create({}),
          world.w.create({ filename: "a", size: target.sizeMax + 1 }),
        ]);
        expect(answers.map(({ status }) => status)).toEqual([400, 401, 403, 404, 409]);
        for (const { status, body } of answers) expect(body).toHaveProperty("statusCode", status);
      });
    });

    describe("upload and complete", () => {
      test("27. the bytes go to uploadUrl without a token", async () => {
        const { body } = await world.w.create({ filename: "a.pdf" });
        expect((await world.w.put(body.uploadUrl, someBytes())).status).toBe(200);
      });

      test("28. complete with uploadId and s3Key publishes, and may be repeated", async () => {
        const bytes = someBytes();
        const { body: created } = await world.w.create({ filename: "a.pdf" });
        await world.w.put(created.uploadUrl, bytes);
        const request = { uploadId: created.uploadId, s3Key: created.storageKey };
        const first = await world.w.complete(request);
        expect(first.status).toBe(200);
        expect(first.body).toMatchObject({
          id: created.id,
          uploadId: created.uploadId,
          hash: `sha256:${sha256(bytes)}`,
          size: bytes.length,
          isDuplicate: false,
        });
        expect(first.body).not.toHaveProperty("uploadUrl");
        expect(await world.w.complete(request)).toMatchObject({ status: 200, body: first.body });
      });

      test("29. complete as `curl -d` sends it: JSON called a form", async () => {
        const { body: created } = await world.w.create({ filename: "a.pdf" });
        await world.w.put(created.uploadUrl, someBytes());
        const response = await target.fetch(`${world.w.path}/upload/complete`, {
          method: "POST",
          headers: {
            ...bearer(world.w.token),
            Accept: "*/*",
            "Content-Type": "application/x-www-form-urlencoded",
          },
          body: `{"uploadId": "${created.uploadId}", "s3Key": "${created.storageKey}"}`,
        });
        expect(response.status).toBe(target.verifiesLater === true ? 202 : 200);
      });

      test("30. complete without a token is 401", async () => {
        const path = `${world.w.path}/upload/complete`;
        expect((await target.fetch(path, { method: "POST", body: "{}" })).status).toBe(401);
      });

      test("31. what was completed is listed with its real hash and size", async () => {
        const bytes = someBytes(1_000);
        const { id } = await world.w.upload(bytes);
        expect((await world.r.list()).body.data).toMatchObject([
          { id, hash: `sha256:${sha256(bytes)}`, size: 1_000 },
        ]);
      });

      test("32. more bytes than declared are refused and not listed", async () => {
        const { body } = await world.w.create({ filename: "a", size: 10 });
        const put = await world.w.put(body.uploadUrl, someBytes(11));
        const completed = await world.w.complete({ uploadId: body.uploadId });
        // Some stores refuse the PUT already, by the signature.
        expect([put.status < 300, completed.status]).toEqual(put.status < 300 ? [true, 422] : [false, 409]);
        expect(await total()).toBe(0);
      });

      test("33. other bytes than declared are refused and not listed; the right ones may follow", async () => {
        const bytes = someBytes();
        const declared = { filename: "a", hash: sha256(bytes) };
        const { body } = await world.w.create(declared);
        const put = await world.w.put(body.uploadUrl, someBytes());
        const completed = await world.w.complete({ uploadId: body.uploadId });
        // A worker that finds them out ends the upload: its client has had its answer.
        const refused = target.verifiesLater === true ? 409 : 422;
        expect([put.status < 300, completed.status]).toEqual(
          put.status < 300 ? [true, refused] : [false, 409],
        );
        expect(completed.body).toHaveProperty("statusCode", completed.status);
        expect(await total()).toBe(0);
        const again =
          put.status < 300 && target.verifiesLater === true ? (await world.w.create(declared)).body : body;
        expect((await world.w.put(again.uploadUrl, bytes)).status).toBe(200);
        expect((await world.w.complete({ uploadId: again.uploadId })).status).toBe(200);
        expect(await total()).toBe(1);
      });

      test("33a. the documented flow: a declared hash, then a plain PUT without further headers", async () => {
        const bytes = someBytes();
        const { body } = await world.w.create({ filename: "a.pdf", hash: sha256(bytes), size: bytes.length });
        expect((await world.w.put(body.uploadUrl, bytes, {})).status).toBe(200);
        const completed = await world.w.complete({ uploadId: body.uploadId, s3Key: body.storageKey });
        expect(completed).toMatchObject({
          status: 200,
          body: { id: body.id, hash: `sha256:${sha256(bytes)}` },
        });
      });

      test("34. a tampered signature is refused", async () => {
        const { body } = await world.w.create({ filename: "a" });
        const flipped = body.uploadUrl.replace(/.$/, (last) => (last === "A" ? "B" : "A"));
        const put = await world.w.put(flipped, someBytes());
        expect(put.status).toBeGreaterThanOrEqual(400);
        expect(put.status).toBeLessThan(500);
      });
    });

    describe("dedup", () => {
      test("35-38. the hash of stored content finds the artifact that holds it", async () => {
        const bytes = someBytes();
        const first = await world.w.upload(bytes, { filename: "first.pdf", metadata: { a: 1 } });
        await pause(5);
        for (const hash of [sha256(bytes), `sha256:${sha256(bytes)}`]) {
          const { status, body } = await world.w.create({ filename: "second.txt", hash, metadata: { b: 2 } });
          expect(status).toBe(200);
          expect(body).toMatchObject({
            id: first.id,
            isDuplicate: true,
            filename: "first.pdf",
            metadata: { a: 1 },
            createdAt: first.createdAt,
          });
          expect(body).not.toHaveProperty("uploadUrl");
          expect(body).not.toHaveProperty("uploadId");
        }
        expect(await total()).toBe(1);
      });

      test("39. the same bytes without a hash are found when they are completed", async () => {
        const bytes = someBytes();
        const first = await world.w.upload(bytes);
        const second = await world.w.upload(bytes);
        expect(second).toMatchObject({ id: first.id, isDuplicate: true });
        expect(await total()).toBe(1);
      });
    });

    describe("list", () => {
      test("40. an empty dock", async () => {
        const { status, body } = await world.r.list();
        expect(status).toBe(200);
        expect(body).toEqual({
          data: [],
          meta: { total: 0, page: 1, pageSize: 20, hasMore: false, nextCursor: null },
        });
      });

      test("41-46. pages of 25 artifacts", async () => {
        const ids = await fill(25);
        const page = async (query: string): Promise<ListJson> => (await world.r.list(query)).body;

        const first = await page("");
        expect(first.data).toHaveLength(20);
        expect(first.meta).toMatchObject({ total: 25, page: 1, pageSize: 20, hasMore: true });
        expect(first.data.map(({ id }) => id)).toEqual(ids.toReversed().slice(0, 20));

        const all = await page("?limit=50&offset=0");
        expect(all.data).toHaveLength(25);
        expect(all.meta.hasMore).toBe(false);

        const last = await page("?limit=10&offset=20");
        expect(last.data).toHaveLength(5);
        expect(last.meta).toMatchObject({ total: 25, page: 3, pageSize: 10, hasMore: false });

        const walked: string[] = [];
        for (let offset = 0, more = true; more; offset += 7) {
          const { data, meta } = await page(`?limit=7&offset=${offset}`);
          walked.push(...data.map(({ id }) => id));
          more = meta.hasMore;
        }
        expect(walked).toEqual(ids.toReversed());

        expect((await page("?limit=1000")).meta.pageSize).toBe(1_000);
        expect((await page("?limit=5000")).meta.pageSize).toBe(1_000);
        expect((await page("?limit=99999999999999999999")).meta.pageSize).toBe(1_000);

        for (const offset of ["26", "9007199254740993", "99999999999999999999"]) {
          const beyond = await page(`?offset=${offset}`);
          expect(beyond.data).toEqual([]);
          expect(beyond.meta).toMatchObject({ total: 25, hasMore: false });
        }
      });

      test("47. an item has exactly the documented keys", async () => {
        await world.w.upload(someBytes());
        const [item] = (await world.r.list()).body.data;
        expect(Object.keys(item ?? {}).sort()).toEqual(
          "id dockId filename contentType size hash metadata createdAt updatedAt downloadUrl expiresAt"
            .split(" ")
            .sort(),
        );
      });

      test("48. search is a part of the filename, in any case, without wildcards", async () => {
        await world.w.upload(someBytes(), { filename: "discharge-summary.pdf" });
        await world.w.upload(someBytes(), { filename: "100%_sure.pdf" });
        expect(await total("?search=DisCharge")).toBe(1);
        expect(await total("?search=nothing-like-it")).toBe(0);
        expect(await total("?search=%25")).toBe(1);
        expect(await total("?search=a*")).toBe(0);
        expect(await total("?search=")).toBe(2);
      });

      describe("metadata", () => {
        beforeEach(async () => {
          const file = (metadata: object) => world.w.upload(someBytes(), { filename: "a", metadata });
          await file({ patientId: "12345", documentType: "discharge-summary" });
          await file({ patientId: "12345", documentType: "lab" });
          await file({ patientId: 12345 });
          await file({ patientId: "67890" });
        });
        const encoded = (filter: object): string => `?metadata=${encodeURIComponent(JSON.stringify(filter))}`;

        test("49. one field, strictly typed", async () => {
          expect(await total(encoded({ patientId: "12345" }))).toBe(2);
          expect(await total(encoded({ patientId: 12345 }))).toBe(1);
        });
        test("50. two fields must both match", async () => {
          expect(await total(encoded({ patientId: "12345", documentType: "lab" }))).toBe(1);
        });
        test("51. raw braces and quotes, as `curl -g` sends them", async () => {
          expect(await total('?metadata={"patientId":"12345"}')).toBe(2);
        });
        test("52. without braces, as curl sends the documented command", async () => {
          expect(await total('?metadata="patientId":"12345"')).toBe(2);
        });
        test("in brackets, as some libraries write objects, it is refused rather than left out", async () => {
          for (const query of ["?metadata[patientId]=12345", "?limit=5&metadata%5BpatientId%5D=12345"]) {
            const { status, body } = await world.r.list(query);
            expect([status, (body as unknown as ErrorJson).message]).toEqual([
              400,
              ["metadata must be one value, without brackets behind its name"],
            ]);
          }
        });
      });

      test("53. createdAfter", async () => {
        await fill(2);
        const seconds = (at: number): string => `${new Date(at).toISOString().slice(0, 19)}Z`;
        expect(await total(`?createdAfter=${seconds(now() + HOUR_MS)}`)).toBe(0);
        expect(await total(`?createdAfter=${seconds(now() - HOUR_MS)}`)).toBe(2);
        // As a shell writes it: the plus arrives as a space.
        const offset = new Date(now() + HOUR_MS).toISOString().slice(0, 19);
        expect(await total(`?createdAfter=${offset}+02:00`)).toBe(2);
        expect(await total(`?createdAfter=${offset}-02:00`)).toBe(0);
      });

      test("54. createdBefore, and windows that meet without overlap", async () => {
        await fill(3);
        expect(await total(`?createdBefore=${new Date(now() - HOUR_MS).toISOString()}`)).toBe(0);
        const { data } = (await world.r.list()).body;
        const [, middle] = data;
        const at = middle?.createdAt ?? "";
        const before = data.filter(({ createdAt }) => createdAt < at).length;
        expect(await total(`?createdBefore=${at}`)).toBe(before);
        expect(await total(`?createdAfter=${at}`)).toBe(3 - before);
        expect(await total(`?createdAfter=${at}&createdBefore=${at}`)).toBe(0);
      });

      test("55. search, metadata and dates combine; total counts what matches all", async () => {
        await world.w.upload(someBytes(), { filename: "a-1.pdf", metadata: { k: 1 } });
        await world.w.upload(someBytes(), { filename: "a-2.pdf", metadata: { k: 2 } });
        await world.w.upload(someBytes(), { filename: "b-1.pdf", metadata: { k: 1 } });
        const past = new Date(now() - HOUR_MS).toISOString();
        const filter = `search=a-&metadata=${encodeURIComponent('{"k":1}')}`;
        const { data, meta } = (await world.r.list(`?${filter}&createdAfter=${past}`)).body;
        expect(data.map(({ filename }) => filename)).toEqual(["a-1.pdf"]);
        expect(meta.total).toBe(1);
        expect(await total(`?${filter}&createdBefore=${past}`)).toBe(0);
      });

      test("56. downloadUrl hands out the bytes without a token", async () => {
        const bytes = someBytes(5_000);
        await world.w.upload(bytes, { filename: "ü 'x'.pdf" });
        const [item] = (await world.r.list()).body.data;
        const response = await target.fetch(item?.downloadUrl ?? "");
        expect(response.status).toBe(200);
        expect(new Uint8Array(await response.arrayBuffer())).toEqual(bytes);
      });

      test("57. expiresAt is an hour from the request, each time", async () => {
        await world.w.upload(someBytes());
        const expiry = async (): Promise<number> =>
          Date.parse((await world.r.list()).body.data[0]?.expiresAt ?? "");
        const first = await expiry();
        expect(Math.abs(first - now() - HOUR_MS)).toBeLessThan(5_000);
        await pause(1_100);
        expect(await expiry()).toBeGreaterThan(first);
      });

      test("59. who may list", async () => {
        expect((await target.fetch(world.r.path)).status).toBe(401);
        expect(await world.w.list()).toMatchObject({
          status: 403,
          body: {
            statusCode: 403,
            message: "Insufficient scope. Required: artifacts:read",
            error: "Forbidden",
          },
        });
        expect((await world.x.list()).status).toBe(403);
        expect((await dockClient(target, "dock_unknown", world.org.token).list()).status).toBe(404);
      });

      test("60. the 101st list within a minute is 429; other clients go on", async () => {
        for (let i = 0; i < 100; i++) {
          expect(
            (await target.fetch(`${world.r.path}?limit=1`, { headers: bearer(world.r.token) })).status,
          ).toBe(200);
        }
        const { status, headers, body } = await world.r.list();
        expect(status).toBe(429);
        expect(body).toMatchObject({ statusCode: 429, error: "Too Many Requests" });
        expect(Number(headers.get("retry-after"))).toBeGreaterThanOrEqual(1);
        expect(Number(headers.get("retry-after"))).toBeLessThanOrEqual(60);
        expect((await world.org.list()).status).toBe(200);
      });

      test("61. the 1001st download within the hour is 429, where docyard hands them out", async () => {
        await world.w.upload(someBytes());
        const url = (await world.r.list()).body.data[0]?.downloadUrl ?? "";
        const statuses = new Set<number>();
        for (let i = 0; i < 1_000; i++) {
          const response = await target.fetch(url);
          await response.arrayBuffer();
          statuses.add(response.status);
        }
        expect([...statuses]).toEqual([200]);
        if (target.servesBlobs === false) {
          expect((await target.fetch(url)).status).toBe(200);
          return;
        }
        const { status, headers, body } = await answer<ErrorJson>(target.fetch(url));
        expect(status).toBe(429);
        expect(body).toMatchObject({ statusCode: 429 });
        expect(headers.get("retry-after")).toMatch(/^\d+$/);
        const others = (await world.org.list()).body.data[0]?.downloadUrl ?? "";
        expect((await target.fetch(others)).status).toBe(200);
      });

      test("62. docks do not see each other", async () => {
        const mine = await world.w.upload(someBytes());
        const theirs = await world.other.upload(someBytes());
        expect((await world.r.list()).body.data.map(({ id }) => id)).toEqual([mine.id]);
        expect((await world.other.list()).body.data.map(({ id }) => id)).toEqual([theirs.id]);
      });
    });
  });
}
