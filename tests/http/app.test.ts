/** What surrounds the faces: request ids, headers, unknown routes and methods, health, metrics, keys, bodies. */

import { describe, expect, onTestFinished, test, vi } from "vitest";
import type { Harness, HarnessOptions } from "./harness.ts";
import { openHarness, PUBLIC_URL } from "./harness.ts";
import type { ErrorJson } from "./target.ts";
import { answer, openWorld, READ, requestToken, someBytes } from "./target.ts";

async function open(options?: HarnessOptions): Promise<Harness> {
  const harness = await openHarness(options);
  onTestFinished(() => harness.close());
  return harness;
}

describe("request ids", () => {
  test.each(["abc", "a1b2:C3.d-e_f@g=h+i", "x".repeat(128)])("%s is taken over", async (id) => {
    const { fetch, lines } = await open();
    const response = await fetch("/v1/machine/docks/d/artifacts", { headers: { "X-Request-Id": id } });
    expect(response.headers.get("x-request-id")).toBe(id);
    expect(lines.at(-1)?.fields).toMatchObject({ requestId: id });
  });

  test.each([
    "",
    "a b",
    "x".repeat(129),
    "a\tb",
    "ü",
    "<script>",
    "dys_live_abc",
    "dyt_live_abc",
    "dk_live_abc",
  ])("%j is replaced", async (id) => {
    const { fetch } = await open();
    const response = await fetch("/v1/healthz", { headers: { "X-Request-Id": id } });
    expect(response.headers.get("x-request-id")).toMatch(/^[0-9a-f-]{36}$/);
  });
});

describe("every answer", () => {
  test("carries the security headers and is not cached, also errors", async () => {
    const harness = await open();
    const { r } = await openWorld(harness);
    const answers = [
      await harness.fetch(r.path, { headers: { Authorization: `Bearer ${r.token}` } }),
      await harness.fetch(r.path),
      await harness.fetch("/nowhere"),
      await harness.fetch("/v1/oauth/token"),
      await harness.fetch("/v1/healthz"),
    ];
    expect(answers.map(({ status }) => status)).toEqual([200, 401, 404, 405, 200]);
    for (const { headers } of answers) {
      expect(headers.get("x-content-type-options")).toBe("nosniff");
      expect(headers.get("x-frame-options")).toBe("DENY");
      expect(headers.get("content-security-policy")).toContain("default-src 'none'");
      expect(headers.get("referrer-policy")).toBe("no-referrer");
      expect(headers.get("cache-control")).toBe("no-store");
      expect(headers.get("content-type")).toBe("application/json; charset=utf-8");
      expect(headers.get("x-request-id")).toMatch(/./);
    }
  });

  test("from a blob URL carries them as well, and any page may read it", async () => {
    const harness = await open();
    const { w, r } = await openWorld(harness);
    await w.upload(someBytes());
    const url = (await r.list()).body.data[0]?.downloadUrl ?? "";
    const { uploadUrl } = (await w.create({ filename: "a" })).body;
    type Sent = Omit<RequestInit, "headers"> & { readonly headers?: Readonly<Record<string, string>> };
    const answers: [expected: number, url: string, init?: Sent][] = [
      [200, url],
      [200, url, { method: "HEAD" }],
      [206, url, { headers: { Range: "bytes=0-0" } }],
      [304, url, { headers: { "If-None-Match": "*" } }],
      [412, url, { headers: { "If-Match": '"another"' } }],
      [416, url, { headers: { Range: "bytes=9999-" } }],
      [403, `${url}x`],
      [403, `${url}x`, { method: "HEAD" }],
      [204, url, { method: "OPTIONS" }],
      [200, uploadUrl, { method: "PUT", body: "bytes" }],
    ];
    for (const [expected, target, { headers: sent, ...init } = {}] of answers) {
      const { status, headers } = await harness.fetch(target, {
        ...init,
        headers: { ...sent, "X-Request-Id": "mine" },
      });
      expect(status).toBe(expected);
      expect(headers.get("x-request-id")).toBe("mine");
      expect(headers.get("x-content-type-options")).toBe("nosniff");
      expect(headers.get("x-frame-options")).toBe("DENY");
      expect(headers.get("content-security-policy")).toContain("default-src 'none'");
      expect(headers.get("referrer-policy")).toBe("no-referrer");
      expect(headers.get("access-control-allow-origin")).toBe("*");
      if (status === 403)
        expect(headers.get("access-control-expose-headers")).toBe("Retry-After, X-Request-Id");
    }
  });
});

describe("routes", () => {
  test.each([
    "/",
    "/v1",
    "/v1/docks/d/artifacts",
    "/v1/machine/docks/d",
    "/v1/machine/docks//artifacts",
    "/v2/x",
  ])("%s is 404 in the envelope", async (path) => {
    const { fetch } = await open();
    const { status, body } = await answer<ErrorJson>(fetch(path));
    expect(status).toBe(404);
    expect(body).toEqual({ statusCode: 404, message: "No such route", error: "Not Found" });
  });

  test.each([
    ["GET", "/v1/oauth/token", "POST"],
    ["DELETE", "/v1/machine/docks/d/artifacts", "GET, HEAD, POST"],
    ["PUT", "/v1/machine/docks/d/artifacts", "GET, HEAD, POST"],
    ["PATCH", "/v1/machine/docks/d/artifacts/art_1", "DELETE, GET, HEAD"],
    ["POST", "/v1/healthz", "GET, HEAD"],
    ["POST", "/metrics", "GET, HEAD"],
    ["OPTIONS", "/.well-known/jwks.json", "GET, HEAD"],
  ])("%s %s is 405 with Allow", async (method, path, allow) => {
    const { fetch } = await open();
    const { status, body, headers } = await answer<ErrorJson>(fetch(path, { method }));
    expect(status).toBe(405);
    expect(headers.get("allow")).toBe(allow);
    expect(body).toMatchObject({ statusCode: 405, error: "Method Not Allowed" });
  });

  test("HEAD answers as GET does, without a body", async () => {
    const { fetch } = await open();
    const response = await fetch("/v1/healthz", { method: "HEAD" });
    expect(response.status).toBe(200);
    expect(await response.text()).toBe("");
  });
});

describe("health", () => {
  test("healthz", async () => {
    const { fetch } = await open();
    expect((await answer(fetch("/v1/healthz"))).body).toEqual({ status: "ok", version: "0.0.0-test" });
  });

  test("readyz is 200 while all parts can work", async () => {
    const { fetch } = await open();
    expect(await answer(fetch("/v1/readyz"))).toMatchObject({
      status: 200,
      body: { status: "ready", checks: { docyard: "ok", blobs: "ok" } },
    });
  });

  test("readyz names the part that fails, and tells why only to the log", async () => {
    const reason = "connect ECONNREFUSED postgres://user:hunter2@db:5432/docyard";
    const { fetch, lines } = await open({
      app: {
        checks: { store: () => Promise.reject(new Error(reason)), blobs: () => Promise.resolve() },
      },
    });
    const { status, body } = await answer(fetch("/v1/readyz"));
    expect(status).toBe(503);
    expect(body).toEqual({ status: "unavailable", checks: { store: "failing", blobs: "ok" } });
    expect(lines[0]).toMatchObject({
      level: "warn",
      fields: {
        part: "store",
        error: { message: "connect ECONNREFUSED postgres://[redacted]@db:5432/docyard" },
      },
    });
  });

  test("readyz asks once for all who ask together", async () => {
    const check = vi.fn<() => Promise<void>>().mockResolvedValue();
    const { fetch } = await open({ app: { checks: { store: check } } });
    await Promise.all(Array.from({ length: 20 }, () => fetch("/v1/readyz")));
    expect(check).toHaveBeenCalledTimes(1);
  });

  test("readyz is 503 when a part says nothing", async () => {
    vi.useFakeTimers();
    onTestFinished(() => void vi.useRealTimers());
    const { fetch } = await open({ app: { checks: { queue: () => new Promise<void>(() => undefined) } } });
    const pending = answer(fetch("/v1/readyz"));
    await vi.advanceTimersByTimeAsync(5_000);
    expect(await pending).toMatchObject({ status: 503, body: { checks: { queue: "failing" } } });
  });
});

describe("metrics", () => {
  test("count requests by route pattern, bytes and outcomes, and leak no path", async () => {
    const harness = await open();
    const { w, r, dockId } = await openWorld(harness);
    const bytes = someBytes(1_000);
    await w.upload(bytes);
    await w.upload(bytes);
    const url = (await r.list()).body.data[0]?.downloadUrl ?? "";
    await (await harness.fetch(url)).arrayBuffer();
    await harness.fetch("/some/unknown/path");
    await harness.fetch("/v1/healthz", { method: "PROPFIND" });
    const response = await harness.fetch("/metrics");
    expect(response.headers.get("content-type")).toMatch(/^text\/plain/);
    const text = await response.text();
    const value = (start: string): number =>
      Number(
        text
          .split("\n")
          .find((line) => line.startsWith(start))
          ?.split(" ")
          .at(-1),
      );
    const duration = "docyard_http_request_duration_seconds_count";
    const artifacts = "/v1/machine/docks/:dockId/artifacts";
    expect(value(`${duration}{method="POST",route="${artifacts}",status="201"}`)).toBe(2);
    expect(value(`${duration}{method="GET",route="unmatched",status="404"}`)).toBe(1);
    expect(value(`${duration}{method="other",route="/v1/healthz",status="405"}`)).toBe(1);
    expect(value('docyard_http_request_body_bytes_total{method="PUT",route="/v1/blobs/*"}')).toBe(2_000);
    expect(value('docyard_http_response_body_bytes_total{method="GET",route="/v1/blobs/*"}')).toBe(1_000);
    expect(value('docyard_artifacts_created_total{duplicate="false"}')).toBe(2);
    expect(value('docyard_uploads_completed_total{outcome="stored"}')).toBe(1);
    expect(value('docyard_uploads_completed_total{outcome="duplicate"}')).toBe(1);
    expect(value("docyard_tokens_issued_total")).toBe(5);
    expect(value("process_cpu_seconds_total")).toBeGreaterThan(0);
    expect(text).not.toContain(dockId);
    expect(text).not.toContain("unknown/path");
    const names = text.split("\n").filter((line) => line.startsWith("# TYPE"));
    expect(new Set(names).size).toBe(names.length);
  });
});

describe("discovery", () => {
  test("lets an OAuth client find the endpoint and the keys", async () => {
    const { fetch } = await open({ publicUrl: () => `${PUBLIC_URL}/` });
    const { body } = await answer<Record<string, unknown>>(fetch("/.well-known/oauth-authorization-server"));
    expect(body).toMatchObject({
      issuer: PUBLIC_URL,
      token_endpoint: `${PUBLIC_URL}/v1/oauth/token`,
      jwks_uri: `${PUBLIC_URL}/.well-known/jwks.json`,
      grant_types_supported: ["client_credentials"],
    });
  });
});

describe("bodies", () => {
  const limit = 1_024;
  const send = async (
    body: string | Uint8Array<ArrayBuffer> | ReadableStream,
    headers: Record<string, string> = {},
  ) => {
    const harness = await open({ app: { bodyBytesMax: limit } });
    const { w } = await openWorld(harness);
    return answer<ErrorJson>(
      harness.fetch(w.path, {
        method: "POST",
        headers: { Authorization: `Bearer ${w.token}`, ...headers },
        body,
        duplex: "half",
      }),
    );
  };

  test("up to the limit are read", async () => {
    const body = '{"filename":"a"}'.padEnd(limit);
    expect((await send(body)).status).toBe(201);
    expect(await send(`${body} `)).toMatchObject({
      status: 413,
      body: {
        statusCode: 413,
        message: "Request body must be at most 1024 bytes",
        error: "Payload Too Large",
      },
    });
  });

  test("announced too large are refused unread", async () => {
    expect((await send("{}", { "Content-Length": "1025" })).status).toBe(413);
  });

  test("that never end are cut off", async () => {
    let sent = 0;
    const endless = new ReadableStream<Uint8Array>({
      pull(controller) {
        sent += 100;
        controller.enqueue(new Uint8Array(100).fill(0x20));
      },
    });
    expect((await send(endless)).status).toBe(413);
    expect(sent).toBeLessThan(10 * limit);
  });

  test("that stall are given up", async () => {
    const harness = await open();
    const { w } = await openWorld(harness);
    vi.useFakeTimers();
    onTestFinished(() => void vi.useRealTimers());
    const pending = answer<ErrorJson>(
      harness.fetch(w.path, {
        method: "POST",
        headers: { Authorization: `Bearer ${w.token}` },
        body: new ReadableStream(),
        duplex: "half",
      }),
    );
    // Authorisation comes first, and takes its own turns of the event loop.
    await vi.waitFor(() => expect(vi.getTimerCount()).toBeGreaterThan(0));
    await vi.advanceTimersByTimeAsync(30_000);
    expect(await pending).toMatchObject({
      status: 408,
      body: { statusCode: 408, error: "Request Timeout" },
    });
  });

  test.each([
    ["that break off", new ReadableStream({ start: (c) => c.error(new Error("reset")) }), /ended early/],
    ["that are not UTF-8", new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x7d]), /UTF-8/],
    ["that are empty", "", /empty/],
    ["with a key given twice", '{"filename":"a","size":1,"size":2}', /key "size" twice/],
    ["with a key given twice in two spellings", '{"filename":"a","f\\u0069lename":"b"}', /"filename" twice/],
    ["nested without end", `{"x":${"[".repeat(200)}${"]".repeat(200)}}`, /nested deeper/],
    ["that are an array", "[]", /JSON object/],
    ["that are null", "null", /JSON object/],
    ["that are text", "hello", /not valid JSON/],
  ])("%s are 400 with a reason", async (_name, body, reason) => {
    const { status, body: error } = await send(body);
    expect(status).toBe(400);
    expect(error).toMatchObject({ statusCode: 400, error: "Bad Request" });
    expect(error.message).toMatch(reason);
  });

  test("may repeat a key in different objects, and may begin with a byte order mark", async () => {
    expect(
      (await send('\ufeff{"filename":"a","metadata":{"filename":[{"a":1},{"a":"\\"a\\":1"}]}}')).status,
    ).toBe(201);
  });
});

describe("faults nobody foresaw", () => {
  test("are 500 without a word about why, and logged with the request id", async () => {
    const secret = "dys_live_supersecret";
    const harness = await open();
    const { r } = await openWorld(harness);
    vi.spyOn(harness.store.artifacts, "find").mockRejectedValue(
      new Error(`relation "artifacts" does not exist (${secret})`, { cause: new Error("deeper") }),
    );
    const { status, body, headers } = await answer<ErrorJson>(
      harness.fetch(r.path, { headers: { Authorization: `Bearer ${r.token}` } }),
    );
    expect(status).toBe(500);
    expect(body).toEqual({
      statusCode: 500,
      message: "Internal server error",
      error: "Internal Server Error",
    });
    const line = harness.lines.find(({ level }) => level === "error");
    expect(line?.fields).toMatchObject({
      requestId: headers.get("x-request-id"),
      error: {
        message: 'relation "artifacts" does not exist (dys_[redacted])',
        cause: { message: "deeper" },
      },
    });
    expect(JSON.stringify(line)).not.toContain(secret);
  });
});

test("a token works with scopes of its own, and only with those", async () => {
  const harness = await open();
  const dockId = await harness.operator.createDock();
  const client = await harness.operator.createClient({ dockId, scopes: [READ] });
  await expect(requestToken(harness, client, "artifacts:write")).rejects.toThrow("Invalid scope");
});
