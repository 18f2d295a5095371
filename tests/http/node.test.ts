/** What only a real socket shows: raw request lines, HEAD, clients that go away, bodies that are not waited for. */

import { once } from "node:events";
import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { connect } from "node:net";
import { getRequestListener } from "@hono/node-server";
import * as fc from "fast-check";
import { beforeEach, expect, onTestFinished, test, vi } from "vitest";
import type { NodeHarness } from "./node-harness.ts";
import { openNodeHarness } from "./node-harness.ts";
import type { World } from "./target.ts";
import { openWorld, someBytes } from "./target.ts";

const MIB = 1024 * 1024;

let harness: NodeHarness;
let world: World;

beforeEach(async () => {
  harness = await openNodeHarness();
  onTestFinished(() => harness.close());
  world = await openWorld(harness);
});

/** Sends text as it stands and resolves to all that comes back until the server closes. */
async function raw(text: string): Promise<string> {
  const socket = connect(harness.port, "127.0.0.1");
  socket.setEncoding("utf8");
  let answer = "";
  socket.on("data", (chunk: string) => {
    answer += chunk;
  });
  socket.write(text);
  await once(socket, "close");
  return answer;
}

const head = (path: string, ...headers: string[]): string =>
  [`GET ${path} HTTP/1.1`, "Host: x", "Connection: close", ...headers, "", ""].join("\r\n");

async function downloadUrl(bytes: Uint8Array): Promise<string> {
  await world.w.upload(bytes);
  return (await world.r.list()).body.data[0]?.downloadUrl ?? "";
}

/** The line of the last request on a blob URL; it may be written after the client has its answer. */
function blobLine(method: string): Promise<Readonly<Record<string, unknown>>> {
  return vi.waitFor(() => {
    const found = harness.lines.findLast(
      ({ fields }) => fields["route"] === "/v1/blobs/*" && fields["method"] === method,
    );
    if (found === undefined) throw new Error("not logged yet");
    return found.fields;
  });
}

test("a page may read why its URL is refused, when to come again, and what to tell the operator", async () => {
  const url = await downloadUrl(someBytes());
  for (const method of ["GET", "HEAD", "PUT"]) {
    const { status, headers } = await fetch(`${url}x`, { method });
    expect(status).toBe(403);
    expect(headers.get("access-control-allow-origin")).toBe("*");
    expect(headers.get("access-control-expose-headers")).toBe("Retry-After, X-Request-Id");
    expect(headers.get("x-request-id")).toMatch(/^[\w-]{36}$/);
  }
});

test.each(["with its length", "in chunks"])(
  "a body %s that a parser has read before is no empty file",
  async (how) => {
    // As in an Express app whose `app.use(express.raw())` comes before docyard.
    const listener = getRequestListener(harness.app.fetch);
    const server = createServer((incoming, outgoing) => {
      incoming.resume().once("end", () => void listener(incoming, outgoing));
    }).listen(0, "127.0.0.1");
    onTestFinished(() => void server.close());
    await once(server, "listening");
    const { uploadUrl, uploadId } = (await world.w.create({ filename: "a.txt" })).body;
    const url = new URL(uploadUrl);
    url.port = `${(server.address() as AddressInfo).port}`;
    const body = how === "in chunks" ? new Blob(["hello"]).stream() : "hello";
    const put = await fetch(url, { method: "PUT", body, duplex: "half" });
    expect([put.status, await put.text()]).toEqual([500, expect.stringContaining("before body parsers")]);
    expect((await world.w.complete({ uploadId })).status).toBe(409);
  },
);

test("quotes and braces may stand raw in the request line", async () => {
  await world.w.upload(someBytes(), { filename: "a", metadata: { patientId: "12345" } });
  await world.w.upload(someBytes(), { filename: "b", metadata: { patientId: "67890" } });
  const authorization = `Authorization: Bearer ${world.r.token}`;
  for (const filter of [
    '{"patientId":"12345"}',
    '"patientId":"12345"',
    "%7B%22patientId%22:%2212345%22%7D",
  ]) {
    const answer = await raw(head(`${world.r.path}?metadata=${filter}`, authorization));
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
    expect(answer).toContain('"total":1');
  }
});

test("a byte that is no UTF-8, and a backslash, are refused or harmless, never a 5xx", async () => {
  const authorization = `Authorization: Bearer ${world.r.token}`;
  for (const query of ["?search=\u00ff", "?search=\\", "?metadata=\\", "?search=%", "?%", "??", "?#x"]) {
    expect(await raw(head(world.r.path + query, authorization))).toMatch(/^HTTP\/1\.1 (200|400) /);
  }
});

test("HEAD on a download URL says all but the bytes, and costs no download", async () => {
  const url = await downloadUrl(someBytes(1_000));
  const response = await fetch(url, { method: "HEAD" });
  expect(response.status).toBe(200);
  expect(response.headers.get("content-length")).toBe("1000");
  expect((await fetch(`${url}x`, { method: "HEAD" })).status).toBe(403);
  expect(await blobLine("HEAD")).toMatchObject({ status: 403 });
});

test("an upload without a length is taken and counted", async () => {
  const { body } = await world.w.create({ filename: "a" });
  const sent = request(body.uploadUrl, { method: "PUT" });
  sent.write(someBytes(MIB));
  sent.end(someBytes(MIB));
  const [response] = (await once(sent, "response")) as [{ statusCode: number; resume(): void }];
  response.resume();
  expect(response.statusCode).toBe(200);
  const { status, bytesIn } = await blobLine("PUT");
  expect(status).toBe(200);
  // The socket's count: the body with its chunk headers, less what came with the head.
  expect(Number(bytesIn)).toBeGreaterThan(2 * MIB - 128 * 1024);
  expect(Number(bytesIn)).toBeLessThan(2 * MIB + 64 * 1024);
});

test("an upload that breaks off leaves nothing, and the server goes on", async () => {
  const { body } = await world.w.create({ filename: "a" });
  const sent = request(body.uploadUrl, { method: "PUT", headers: { "Content-Length": 10 * MIB } });
  sent.on("error", () => undefined);
  sent.write(someBytes(MIB));
  await vi.waitFor(() => expect(sent.writableLength).toBe(0));
  sent.destroy();
  expect(await blobLine("PUT")).toMatchObject({ status: 499, aborted: true });
  expect((await world.w.complete({ uploadId: body.uploadId })).status).toBe(409);
  expect(harness.lines.filter(({ level }) => level === "error")).toEqual([]);
});

test("a download that breaks off is noted as such, and the server goes on", async () => {
  const url = await downloadUrl(someBytes(32 * MIB));
  // Whole, on a connection that the server then closes: that is not a cut.
  const { pathname, search } = new URL(url);
  expect((await raw(head(pathname + search))).length).toBeGreaterThan(MIB);
  expect(await blobLine("GET")).not.toHaveProperty("aborted");
  const asked = request(url);
  asked.on("error", () => undefined);
  asked.end();
  const [response] = (await once(asked, "response")) as [{ destroy(): void }];
  response.destroy();
  await vi.waitFor(() => expect(harness.lines.at(-1)?.fields).toHaveProperty("aborted"));
  expect(await blobLine("GET")).toMatchObject({ status: 200, aborted: true });
  expect((await fetch(url)).status).toBe(200);
  expect(harness.lines.filter(({ level }) => level === "error")).toEqual([]);
});

test("a JSON body that breaks off is nobody's fault here", async () => {
  const sent = request(`http://127.0.0.1:${harness.port}${world.w.path}`, {
    method: "POST",
    headers: { Authorization: `Bearer ${world.w.token}`, "Content-Length": 1_000 },
  });
  sent.on("error", () => undefined);
  sent.write('{"filename":');
  await vi.waitFor(() => expect(sent.writableLength).toBe(0));
  // The handler must be reading by then, not only the head be parsed.
  await new Promise((resolve) => setTimeout(resolve, 50));
  sent.destroy();
  await vi.waitFor(() =>
    expect(harness.lines.at(-1)?.fields).toMatchObject({
      method: "POST",
      status: 400,
      principalId: world.client.id,
    }),
  );
  expect(harness.lines.filter(({ level }) => level === "error")).toEqual([]);
});

test("however requests arrive, in one piece or byte by byte, alone or behind each other: the same answers", async () => {
  interface Sent {
    readonly name: string;
    readonly isChunked: boolean;
  }
  const requestOf = ({ name, isChunked }: Sent, isLast: boolean): Buffer => {
    const body = Buffer.from(JSON.stringify({ filename: name }));
    const lines = [
      `POST ${world.w.path} HTTP/1.1`,
      "Host: x",
      `Authorization: Bearer ${world.w.token}`,
      isChunked ? "Transfer-Encoding: chunked" : `Content-Length: ${body.byteLength}`,
      ...(isLast ? ["Connection: close"] : []),
    ];
    const framed = isChunked ? [`${body.byteLength.toString(16)}\r\n`, body, "\r\n0\r\n\r\n"] : [body];
    return Buffer.concat([`${lines.join("\r\n")}\r\n\r\n`, ...framed].map((part) => Buffer.from(part)));
  };
  const sent = fc.record({ name: fc.stringMatching(/^[a-zü€]{1,300}$/u), isChunked: fc.boolean() });
  await fc.assert(
    fc.asyncProperty(
      fc.array(sent, { minLength: 1, maxLength: 4 }),
      fc.array(fc.nat(), { maxLength: 12 }),
      async (all, seams) => {
        const text = Buffer.concat(all.map((one, i) => requestOf(one, i === all.length - 1)));
        const cuts = [0, ...seams.map((seam) => seam % text.length).sort((a, b) => a - b), text.length];
        const socket = connect({ port: harness.port, host: "127.0.0.1", noDelay: true });
        let answer = "";
        socket.setEncoding("utf8").on("data", (chunk: string) => (answer += chunk));
        for (const [i, cut] of cuts.slice(1).entries()) {
          await new Promise<void>((resolve) => {
            socket.write(text.subarray(cuts[i], cut), () => resolve());
          });
          await new Promise(setImmediate);
        }
        await once(socket, "close");
        expect(answer.match(/HTTP\/1\.1 \d+/g)).toEqual(all.map(() => "HTTP/1.1 201"));
        const names = [...answer.matchAll(/"filename":"([^"]*)"/g)].map(([, name]) => name);
        expect(names).toEqual(all.map(({ name }) => name));
      },
    ),
    { numRuns: 60 },
  );
});

test("who may not is told so without waiting for the body; what is too large is not read to its end", async () => {
  const post = (headers: Record<string, string>): Promise<Response> =>
    fetch(`http://127.0.0.1:${harness.port}${world.w.path}`, {
      method: "POST",
      headers,
      body: new ReadableStream({
        pull: (controller) => controller.enqueue(someBytes(64 * 1024)),
      }),
      duplex: "half",
    });
  expect((await post({})).status).toBe(401);
  expect((await post({ Authorization: `Bearer ${world.r.token}` })).status).toBe(403);
  const large = await post({ Authorization: `Bearer ${world.w.token}` });
  // Told so, for the connection ends here: whoever keeps it would send the next request into nothing.
  expect([large.status, large.headers.get("connection")]).toEqual([413, "close"]);
});

test("a fault of the store while a blob URL is served is 500 in the envelope", async () => {
  const url = await downloadUrl(someBytes());
  vi.spyOn(harness.store.artifacts, "status").mockRejectedValueOnce(new Error("down"));
  const response = await fetch(url);
  expect(response.status).toBe(500);
  expect(await response.json()).toEqual({
    statusCode: 500,
    message: "Internal server error",
    error: "Internal Server Error",
  });
  expect((await fetch(url)).status).toBe(200);
});
