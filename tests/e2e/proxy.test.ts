/**
 * The executable behind a proxy, as the log tells it: whose address a request has when the proxy is trusted, when it is
 * not, and when a client makes headers up; and that no header has a say in the URLs that are handed out.
 */

import { once } from "node:events";
import { createServer, request as httpRequest, type Server as HttpServer } from "node:http";
import { connect, type AddressInfo } from "node:net";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { readConfig } from "../../packages/cli/src/config.ts";
import { exchange, machineClient } from "./client.ts";
import { build, type Server, startServer, tempFolder } from "./program.ts";

let folder: Awaited<ReturnType<typeof tempFolder>>;
let servers: Server[];
let proxies: HttpServer[];

beforeAll(build);

beforeEach(async () => {
  folder = await tempFolder();
  servers = [];
  proxies = [];
});

afterEach(async () => {
  for (const proxy of proxies) {
    proxy.close();
    proxy.closeAllConnections();
  }
  await Promise.all(servers.map((server) => server.kill()));
  await folder.remove();
});

async function serve(...args: readonly string[]): Promise<Server> {
  const server = await startServer(["--db", "memory", "--blob", "memory", ...args], { cwd: folder.path });
  servers.push(server);
  return server;
}

/** Appends its client to `X-Forwarded-For`, as nginx does with `$proxy_add_x_forwarded_for`, and hands the rest on. */
async function proxyBefore(port: number, address = "127.0.0.1"): Promise<string> {
  const proxy = createServer((incoming, outgoing) => {
    const before = incoming.headers["x-forwarded-for"];
    const client = incoming.socket.remoteAddress!;
    const headers = {
      ...incoming.headers,
      "x-forwarded-for": before === undefined ? client : `${String(before)}, ${client}`,
    };
    const { method, url: path } = incoming;
    const onward = httpRequest({ host: "127.0.0.1", port, method, path, headers, localAddress: address });
    onward.on("response", (response) => {
      outgoing.writeHead(response.statusCode!, response.rawHeaders);
      response.pipe(outgoing);
    });
    onward.on("error", () => outgoing.destroy());
    incoming.pipe(onward);
  });
  proxies.push(proxy);
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  return `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
}

/** Stops the server, and returns the addresses it has noted for `/v1/nowhere`. */
async function addressesOf(server: Server): Promise<unknown[]> {
  await server.stop();
  return server
    .log()
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .filter(({ msg, status }) => msg === "request" && status === 404)
    .map(({ remoteAddress }) => remoteAddress);
}

describe("whose request it is", () => {
  test("a trusted proxy says so, however many stand in a row", async () => {
    const server = await serve("--trusted-proxy", "127.0.0.2/32", "--trusted-proxy", "127.0.0.3");
    const inner = await proxyBefore(server.port, "127.0.0.2");
    const outer = await proxyBefore(Number(new URL(inner).port), "127.0.0.3");
    await exchange(`${inner}/v1/nowhere`);
    await exchange(`${outer}/v1/nowhere`);
    await exchange(`${outer}/v1/nowhere`, { headers: { "x-forwarded-for": "203.0.113.9" } });
    // Each time the one who spoke to the first proxy: what it made up stands left of that.
    expect(await addressesOf(server)).toEqual(["127.0.0.1", "127.0.0.1", "127.0.0.1"]);
  });

  test("the client of a trusted proxy is told from the header", async () => {
    const server = await serve("--trusted-proxy", "127.0.0.0/8");
    const ask = (headers: Record<string, string>) => exchange(`${server.url}/v1/nowhere`, { headers });
    await ask({ "x-forwarded-for": "1.2.3.4, 203.0.113.9" });
    await ask({ forwarded: 'for="[2001:db8::1]:4711";proto=https' });
    await ask({ "x-forwarded-for": "unknown" });
    await ask({ "x-forwarded-for": "203.0.113.9", forwarded: "for=6.6.6.6" });
    // Several lines of one header are one list.
    const socket = connect(server.port, "127.0.0.1");
    socket.write(
      "GET /v1/nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" +
        "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 127.0.0.7\r\n\r\n",
    );
    socket.resume();
    await once(socket, "close");
    expect(await addressesOf(server)).toEqual([
      "203.0.113.9",
      "2001:db8::1",
      "127.0.0.1",
      "127.0.0.1",
      "203.0.113.9",
    ]);
  });

  test.each([[[]], [["--trusted-proxy", "10.0.0.0/8,fd00::/8"]]])(
    "headers of a peer that is not trusted change nothing (%j)",
    async (args) => {
      const server = await serve(...args);
      await exchange(`${server.url}/v1/nowhere`, {
        headers: {
          "x-forwarded-for": "203.0.113.9",
          forwarded: "for=203.0.113.9",
          "x-real-ip": "203.0.113.9",
        },
      });
      expect(await addressesOf(server)).toEqual(["127.0.0.1"]);
      expect(server.log()).not.toContain("203.0.113.9");
    },
  );

  test("what is no network is refused", () => {
    const read = (text: string) => readConfig(new Map([["trusted-proxy", [text]]]), {}).trustedProxy;
    expect(read("10.0.0.0/8, fd00::/8 192.0.2.1")).toEqual(["10.0.0.0/8", "fd00::/8", "192.0.2.1/32"]);
    for (const network of ["localhost", "10.0.0.0/33", "10.0.0", "fe80::1%lo/64", "::/129", "10.0.0.0/8/8"]) {
      expect(() => read(network)).toThrow(/^--trusted-proxy: ".*" is not a network such as/);
    }
  });
});

describe("URLs", () => {
  const forged = {
    "x-forwarded-proto": "https",
    "x-forwarded-host": "evil.example",
    "x-forwarded-port": "444",
    "x-forwarded-prefix": "/evil",
    forwarded: "for=203.0.113.9;host=evil.example;proto=https",
    host: "evil.example",
  };

  test.each([[[]], [["--trusted-proxy", "127.0.0.0/8"]]])(
    "begin with the public URL, whatever any header says (%j)",
    async (args) => {
      const server = await serve(...args);
      const client = machineClient(server.url, server.firstRun!.client, server.firstRun!.dock.id);
      const created = await exchange(`${server.url}/v1/machine/docks/${client.dockId}/artifacts`, {
        method: "POST",
        headers: { ...forged, authorization: `Bearer ${await client.token()}` },
        body: Buffer.from(JSON.stringify({ filename: "x" })),
      });
      expect(created.status).toBe(201);
      const { uploadUrl } = JSON.parse(created.body.toString()) as { uploadUrl: string };
      expect(uploadUrl.startsWith(`${server.url}/v1/blobs/`)).toBe(true);
      const { body } = await exchange(`${server.url}/.well-known/oauth-authorization-server`, {
        headers: forged,
      });
      expect(JSON.parse(body.toString())).toMatchObject({ issuer: server.url });
      expect(body.toString() + JSON.stringify(created.headers)).not.toContain("evil");
    },
  );
});
