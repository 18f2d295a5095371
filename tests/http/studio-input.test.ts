/** What the Studio face accepts and refuses: laws over arbitrary input first, then the corners by name. */

import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { StudioHarness } from "./studio-harness.ts";
import { openStudioWorld, UNLIMITED } from "./studio-harness.ts";
import type { StudioArtifact, StudioClient, StudioErrorJson } from "./studio-target.ts";
import { ARTIFACTS, bearer, CREATE } from "./studio-target.ts";
import type { Answer } from "./target.ts";
import { answer } from "./target.ts";

const URL_A = "https://cdn.example.com/videos/promo.mp4";
/** An answer stays one that a person can read. */
const MESSAGE_LENGTH_MAX = 2_000;

let target: StudioHarness;
let client: StudioClient;

beforeAll(async () => {
  ({ target, client } = await openStudioWorld({ settings: UNLIMITED }));
});
afterAll(() => target.close());

const post = (body: RequestInit["body"], headers: Record<string, string> = {}) =>
  answer<StudioArtifact & StudioErrorJson>(
    client.send(CREATE, { method: "POST", headers, ...(body == null ? {} : { body }) }),
  );

/** A refusal: a 4xx in the envelope, and in words. */
function expectRefused({ status, headers, body }: Answer<StudioErrorJson>): void {
  expect(status).toBeGreaterThanOrEqual(400);
  expect(status).toBeLessThan(500);
  expect(body).toEqual({ error: body.message, message: expect.stringMatching(/\w/), status });
  expect(body.message.length).toBeLessThan(MESSAGE_LENGTH_MAX);
  expect(headers.get("content-type")).toBe("application/json; charset=utf-8");
}

const scalar = fc.oneof(
  fc.constantFrom(
    null,
    true,
    0,
    -1,
    Number.MAX_VALUE,
    "",
    " ",
    "video",
    "script",
    URL_A,
    "s3://abc/d",
    "\0",
    "\ud800",
  ),
  fc.string(),
  fc.double(),
);
const anything = fc.oneof(scalar, fc.array(scalar), fc.dictionary(fc.string(), scalar), fc.jsonValue());
const often = <T>(good: fc.Arbitrary<T>) => fc.oneof({ arbitrary: good, weight: 4 }, anything);
const location = often(fc.constantFrom(URL_A, "s3://my-bucket/a/b.mp4", null));
const fragment = often(
  fc.record(
    { url: location, s3Path: location, startTime: often(fc.double({ min: 0, max: 1e6, noNaN: true })) },
    { requiredKeys: [] },
  ),
);
/** Near misses: each part is right more often than not. */
const createBody = fc.record(
  {
    name: often(fc.constant("n")),
    type: often(fc.constantFrom("video", "audio", "script")),
    url: location,
    s3Path: location,
    fragments: often(fc.array(fragment, { maxLength: 4 })),
    other: anything,
  },
  { requiredKeys: [] },
);

describe("laws", () => {
  test("a create is answered with an artifact, or refused in words", async () => {
    let accepted = 0;
    await fc.assert(
      fc.asyncProperty(createBody, async (body) => {
        const answered = await post(JSON.stringify(body));
        if (answered.status !== 201) return expectRefused(answered);
        accepted++;
        expect(answered.body).toMatchObject({ name: body.name, type: body.type, status: "created" });
        expect(target.rings.at(-1)?.id).toBe(answered.body.id);
      }),
      { numRuns: 1_000 },
    );
    expect(accepted).toBeGreaterThan(0);
  });

  test("any JSON, any text and any bytes are refused in words", async () => {
    const body = fc.oneof(
      fc.json(),
      fc.string({ unit: "grapheme" }),
      fc.uint8Array({ maxLength: 64 }).map((bytes) => new Uint8Array(bytes)),
    );
    await fc.assert(
      fc.asyncProperty(body, async (sent) => {
        const answered = await post(sent);
        expectRefused(answered);
        expect(answered.status).toBe(400);
      }),
      { numRuns: 500 },
    );
  });

  test("any query of the list is answered with a page, or refused in words", async () => {
    const value = fc.oneof(
      fc.constantFrom("created", "upload_failed", "deleted", "video", "1", "2", "0", "-1", "1e3", "1.5", ""),
      fc.string({ unit: "binary-ascii" }),
      fc.bigInt().map(String),
    );
    const query = fc.array(fc.tuple(fc.constantFrom("status", "type", "page", "limit", "x"), value), {
      maxLength: 5,
    });
    await fc.assert(
      fc.asyncProperty(query, async (pairs) => {
        const text = pairs.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&");
        const answered = await client.list(`?${text}`);
        if (answered.status !== 200) {
          return expectRefused(answered as unknown as Answer<StudioErrorJson>);
        }
        expect(answered.body.data.length).toBeLessThanOrEqual(answered.body.meta.pageSize);
      }),
      { numRuns: 500 },
    );
  });

  test("any file name is presigned so that create takes its path, or refused in words", async () => {
    const name = fc.oneof(
      fc.string({ unit: "grapheme" }),
      fc.string({ unit: "binary-ascii" }).map((stem) => `${stem}.mp4`),
      fc.constantFrom(
        "a b.mp4",
        "a?b#c%2fd.mp4",
        "q\"'<&>.mp4",
        "..",
        ".",
        "a/b",
        "a\\b",
        "фильм.mp4",
        "🎬.mov",
      ),
      fc.integer({ min: 200, max: 300 }).map((length) => "x".repeat(length)),
    );
    await fc.assert(
      fc.asyncProperty(name, async (fileName) => {
        const answered = await client.presign(fileName);
        if (answered.status !== 200) {
          return expectRefused(answered as unknown as Answer<StudioErrorJson>);
        }
        expect(answered.body.s3Path.endsWith(`/${fileName}`)).toBe(true);
        const { s3Path } = answered.body;
        expect((await client.create({ name: "n", type: "script", s3Path })).status).toBe(201);
      }),
      { numRuns: 300 },
    );
  });

  test("any path below the API is refused in words", async () => {
    await fc.assert(
      fc.asyncProperty(fc.webPath({ size: "+1" }), fc.constantFrom("GET", "POST"), async (path, method) => {
        const sent = method === "POST" ? { method, body: "{}" } : { method };
        const answered = await answer<StudioErrorJson>(client.send(`${ARTIFACTS}/x${path}`, sent));
        expectRefused(answered);
        expect([404, 405]).toContain(answered.status);
      }),
      { numRuns: 200 },
    );
  });

  test("any Authorization header is refused in words", async () => {
    const header = fc.string({
      unit: fc.integer({ min: 0x20, max: 0x7e }).map((c) => String.fromCharCode(c)),
    });
    await fc.assert(
      fc.asyncProperty(header, fc.boolean(), async (text, isBearer) => {
        const headers = { Authorization: isBearer ? `Bearer ${text}` : text };
        const answered = await answer<StudioErrorJson>(target.fetch(ARTIFACTS, { headers }));
        expectRefused(answered);
        expect(answered.status).toBe(401);
      }),
      { numRuns: 200 },
    );
  });
});

describe("create", () => {
  const good = { name: "n", type: "video", url: URL_A };

  test.each([
    ["as JSON", "application/json"],
    ["as a form, as curl -d does", "application/x-www-form-urlencoded"],
    ["as text", "text/plain"],
    ["as nonsense", "nonsense"],
  ])("is read %s", async (_name, contentType) => {
    expect((await post(JSON.stringify(good), { "Content-Type": contentType })).status).toBe(201);
  });

  test("null sources are absent, unknown fields are ignored", async () => {
    const body = { ...good, s3Path: null, fragments: null, status: "upload_completed", id: "x", size: 1 };
    const { status, body: made } = await post(JSON.stringify(body));
    expect(status).toBe(201);
    expect(made).toMatchObject({ status: "created", size: null });
    expect(made.id).not.toBe("x");
  });

  test.each([
    ["nothing", "", "Request body is empty: send a JSON object"],
    ["an array", "[]", "Request body must be a JSON object"],
    ["null", "null", "Request body must be a JSON object"],
    ["half an object", '{"name":"n"', /^Request body is not valid JSON/],
    ["a key twice", '{"url":"https://a.b","url":"https://c.d"}', 'Request body gives the key "url" twice'],
    ["a name that is a number", { ...good, name: 7 }, "name must be a string"],
    ["a type that is null", { ...good, type: null }, "type must be one of video, audio, script"],
    ["a type in capitals", { ...good, type: "Video" }, "type must be one of video, audio, script"],
    ["a url that is an object", { ...good, url: {} }, "url must be a string"],
    ["an s3Path that is a number", { ...good, s3Path: 1 }, "s3Path must be a string"],
    ["fragments that are an object", { ...good, fragments: {} }, "fragments must be an array"],
    ["a fragment that is a URL", { ...good, fragments: [URL_A] }, "fragments[0] must be an object"],
    [
      "a startTime that is text",
      { ...good, url: null, fragments: [{ url: URL_A, startTime: "0" }] },
      "fragments[0].startTime must be a number of seconds",
    ],
    [
      "a startTime beyond all numbers",
      '{"name":"n","type":"video","fragments":[{"url":"https://e.com/a","startTime":1e999}]}',
      "fragments[0].startTime must be a number of seconds",
    ],
    [
      "a fragment with both",
      { ...good, url: null, fragments: [{ url: URL_A, s3Path: "s3://abc/d", startTime: 0 }] },
      "fragments[0].url and fragments[0].s3Path cannot be combined",
    ],
    ["an empty url", { ...good, url: "" }, "url should not be empty"],
    ["an empty s3Path", { name: "n", type: "video", s3Path: "" }, "s3Path should not be empty"],
    ["no fragments at all", { name: "n", type: "video", fragments: [] }, "fragments must not be empty"],
    ["another scheme", { ...good, url: "file:///etc/passwd" }, "url must be an absolute http or https URL"],
    ["credentials in a url", { ...good, url: "https://u:p@e.com/" }, "url must not contain credentials"],
    ["several faults", { name: 1, type: 2, url: 3 }, /^name .+; type .+; url must be a string$/],
  ])("%s is 400", async (_name, body, message) => {
    const rings = target.rings.length;
    const answered = await post(typeof body === "string" ? body : JSON.stringify(body));
    expectRefused(answered);
    expect(answered.status).toBe(400);
    expect(answered.body.message).toMatch(message);
    expect(target.rings).toHaveLength(rings);
  });

  test("a thousand bad fragments are told in a few sentences", async () => {
    const fragments = Array.from({ length: 1_000 }, () => ({ url: "", startTime: -1 }));
    for (const sent of [fragments, fragments.map(() => 1)]) {
      const answered = await post(JSON.stringify({ ...good, url: null, fragments: sent }));
      expectRefused(answered);
      expect(answered.body.message).toMatch(/; and \d+ more$/);
    }
  });

  test("far too many fragments are refused without looking at each", async () => {
    const fragments = Array.from({ length: 100_000 }, () => 1);
    const { status, body } = await post(JSON.stringify({ ...good, fragments }));
    expect(status).toBe(400);
    expect(body.message).toBe("fragments has far too many items");
  });

  test("a body over the limit is 413, announced or not", async () => {
    const text = JSON.stringify({ ...good, other: "x".repeat(1024 * 1024) });
    expectRefused(await post(text));
    expect((await post(text)).status).toBe(413);
    const announced = await post(text, { "Content-Length": String(text.length) });
    expect(announced).toMatchObject({ status: 413, body: { status: 413 } });
  });
});

describe("presign", () => {
  test("the answer has the vendor's keys, and a day's time", async () => {
    const { status, body } = await client.presign("My film.mp4");
    expect(status).toBe(200);
    expect(Object.keys(body)).toEqual(["s3Path", "presignedUploadUrl", "expiresAt"]);
    expect(body.s3Path).toMatch(/^s3:\/\/docyard\/temp\/[^/]+\/My film\.mp4$/);
    expect(Date.parse(body.expiresAt)).toBe(target.clock.now() + 24 * 3_600_000);
    expect(new URL(body.presignedUploadUrl).protocol).toMatch(/^https?:$/);
  });

  test.each([
    ["", "fileName must be given"],
    ["?filename=a.mp4", "fileName must be given"],
    ["?fileName=", "fileName should not be empty"],
    ["?fileName=a.mp4&fileName=b.mp4", "fileName must be given once"],
    ["?fileName=..%2Fa.mp4", "fileName must not contain path separators"],
    ["?fileName=a%00.mp4", "fileName must not contain control characters"],
    [`?fileName=${"x".repeat(256)}`, "fileName must be at most 255 bytes of UTF-8"],
  ])("%j is 400", async (query, message) => {
    const answered = await answer<StudioErrorJson>(client.send(CREATE + query));
    expect(answered).toMatchObject({ status: 400, body: { error: message, message, status: 400 } });
  });
});

describe("routes", () => {
  test.each([
    ["PUT", CREATE, "GET, HEAD, POST"],
    // Contract 49: the literal wins, with every method.
    ["DELETE", CREATE, "GET, HEAD, POST"],
    ["POST", ARTIFACTS, "GET, HEAD"],
    ["POST", `${ARTIFACTS}/67a8f9b0c1d2e3f405060708`, "DELETE, GET, HEAD"],
    ["PUT", `${ARTIFACTS}/67a8f9b0c1d2e3f405060708`, "DELETE, GET, HEAD"],
  ])("%s %s is 405", async (method, path, allow) => {
    const answered = await answer<StudioErrorJson>(client.send(path, { method }));
    expectRefused(answered);
    expect(answered.status).toBe(405);
    expect(answered.headers.get("allow")).toBe(allow);
  });

  test.each(["/api/v1", "/api/v1/projects", `${CREATE}/x`, `${ARTIFACTS}/a/b`, "/api/"])(
    "%s is 404 in this face's words",
    async (path) => {
      const answered = await answer<StudioErrorJson>(target.fetch(path, { headers: bearer("x") }));
      expectRefused(answered);
      expect(answered.status).toBe(404);
    },
  );

  test.each(["/apis", "/v1/machine/docks/d/nothing"])("%s is not this face's", async (path) => {
    const answered = await answer<object>(target.fetch(path));
    expect(answered).toMatchObject({ status: 404, body: { statusCode: 404 } });
  });

  test("HEAD is GET without a body", async () => {
    const { body: made } = await client.create({ name: "n", type: "video", url: URL_A });
    const response = await client.send(`${ARTIFACTS}/${made.id}`, { method: "HEAD" });
    expect(response.status).toBe(200);
    expect(await response.text()).toBe("");
  });
});
