/**
 * A server's life as its operator sees it: the first start and the later ones, what keeps it from starting, and how it
 * stops with requests under way. Nothing here waits for a fixed time to be right: it waits for what must happen.
 */

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import {
  Agent,
  type ClientRequest,
  createServer as createHttpServer,
  request as httpRequest,
  type IncomingMessage,
} from "node:http";
import { type AddressInfo, connect, createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { banner } from "../../packages/cli/src/first-run.ts";
import { exchange, machineClient, type MachineClient, put } from "./client.ts";
import { BIN, build, run, type Server, start, startServer, tempFolder } from "./program.ts";

const execFileAsync = promisify(execFile);

let folder: Awaited<ReturnType<typeof tempFolder>>;
let servers: Server[];

beforeAll(build);

beforeEach(async () => {
  folder = await tempFolder();
  servers = [];
});

afterEach(async () => {
  await Promise.all(servers.map((server) => server.kill()));
  await folder.remove();
});

async function serve(...args: readonly string[]): Promise<Server> {
  const server = await startServer(args, { cwd: folder.path });
  servers.push(server);
  return server;
}

function clientOf(server: Server): MachineClient {
  return machineClient(server.url, server.firstRun!.client, server.firstRun!.dock.id);
}

describe("starting", () => {
  test("the first start prints credentials and three commands that do the main job", async () => {
    const child = start(["--port", "0", "--log-level", "trace"], { cwd: folder.path });
    let stdout = "";
    let stderr = "";
    child.stdout!.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    child.stderr!.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    while (!stdout.includes("upload/complete")) await sleep(10);
    expect(stdout).toMatch(/^docyard \d+\.\d+\.\d+ listens on http:\/\/127\.0\.0\.1:\d+\n/);

    const commands = stdout.slice(stdout.indexOf("TOKEN=")).trim().split("\n\n");
    expect(commands).toHaveLength(3);
    const work = join(folder.path, "work");
    await mkdir(work);
    const shell = await execFileAsync("sh", ["-eu", "-c", commands.join("\n")], { cwd: work });
    const [created, completed] = shell.stdout.trim().split(/(?<=\})\n*(?=\{"id")/) as [string, string];
    expect(JSON.parse(completed)).toMatchObject({
      id: (JSON.parse(created) as { id: string }).id,
      filename: "hello.txt",
      size: (await readFile(join(work, "hello.txt"))).length,
      isDuplicate: false,
    });

    child.kill("SIGTERM");
    await once(child, "close");
    // Secrets, tokens and signatures went to stdout or to the client, and nowhere else.
    for (const secret of [/dys_live_\w+/, /dk_live_\w+/, /signature=\w+/, /dyt_live_[\w.-]+/]) {
      expect(stderr).not.toMatch(secret);
    }
    expect(stderr).not.toContain(/dys_live_\w+/.exec(stdout)![0].slice("dys_live_".length));
    expect(await readdir(folder.path)).toEqual(expect.arrayContaining(["data", "docyard.db"]));
  });

  test("a later start on the same folder shows no credentials and has everything", async () => {
    const first = await serve();
    const stored = await clientOf(first).send({ filename: "kept.txt" }, () => Buffer.from("kept"));
    expect(await first.stop()).toEqual({ code: 0, signal: null });
    const second = await serve();
    expect(second.firstRun).toBeNull();
    const client = machineClient(second.url, first.firstRun!.client, first.firstRun!.dock.id);
    expect((await client.list()).data).toMatchObject([{ id: stored.id, hash: stored.hash }]);
  });

  test("everything in memory leaves nothing behind", async () => {
    const server = await serve("--db", "memory", "--blob", "memory");
    await clientOf(server).send({ filename: "gone.txt" }, () => Buffer.from("gone"));
    await server.stop();
    expect(await readdir(folder.path)).toEqual([]);
  });

  test("one public URL decides every URL that is handed out", async () => {
    const server = await serve("--public-url", "https://files.example.com/docyard/");
    const direct = `http://127.0.0.1:${server.port}`;
    const client = machineClient(direct, server.firstRun!.client, server.firstRun!.dock.id);
    const { uploadUrl } = await client.create({ filename: "x" });
    expect(uploadUrl).toMatch(/^https:\/\/files\.example\.com\/docyard\/v1\/blobs\//);
    // As a proxy would: the prefix taken off, the rest as it is.
    await put(uploadUrl!.replace("https://files.example.com/docyard", direct), Buffer.from("x"));
  });

  test("with a public URL it still says where it listens", () => {
    const [here, there] = ["http://127.0.0.1:8080", "https://files.example.com"];
    expect(banner("1.0.0", here, here)).toBe(`docyard 1.0.0 listens on ${here}\n`);
    expect(banner("1.0.0", here, there)).toBe(`docyard 1.0.0 listens on ${here} for ${there}\n`);
  });

  test("options reach the server from variables and the config file", async () => {
    await writeFile(
      join(folder.path, "docyard.json"),
      JSON.stringify({ "max-size": "10B", "limit-list": 1 }),
    );
    const server = await startServer([], {
      cwd: folder.path,
      env: { DOCYARD_CONFIG: "docyard.json", DOCYARD_LIMIT_LIST: "2", DOCYARD_LIMT_LIST: "3" },
    });
    servers.push(server);
    const client = clientOf(server);
    await expect(client.create({ filename: "x", size: 11 })).rejects.toMatchObject({ status: 409 });
    await client.list();
    await client.list();
    await expect(client.list()).rejects.toMatchObject({ status: 429 });
    expect(server.log()).toContain("DOCYARD_LIMT_LIST is not an option (did you mean DOCYARD_LIMIT_LIST?)");
  });

  test("on every address it warns that signed URLs are for this machine only", async () => {
    const server = await serve("--host", "0.0.0.0");
    expect(server.url).toMatch(/^http:\/\/localhost:\d+$/);
    await server.stop();
    expect(server.log()).toContain("set --public-url");
  });
});

describe("what keeps a server from starting", () => {
  const refused = async (...args: readonly string[]): Promise<string> => {
    const ran = await run(args, { cwd: folder.path });
    expect({ code: ran.code, stdout: ran.stdout }).toEqual({ code: 1, stdout: "" });
    expect(ran.stderr).toMatch(/^docyard-server: [^\n]+\n$/);
    return ran.stderr;
  };

  test("a port in use; and nothing has been touched", async () => {
    const other = createServer().listen(0, "127.0.0.1");
    await once(other, "listening");
    const { port } = other.address() as { port: number };
    expect(await refused("--port", String(port))).toContain(
      `cannot listen on 127.0.0.1:${port}: the port is in use (choose another with --port, or 0 for any)`,
    );
    other.close();
    expect(await readdir(folder.path)).toEqual([]);
  });

  test("an address that is not ours, a name that nobody knows", async () => {
    expect(await refused("--host", "192.0.2.1", "--port", "0")).toContain("this machine has no such address");
    expect(await refused("--host", "no-such-host.invalid", "--port", "0")).toContain(
      "the host name is unknown",
    );
  });

  test("a folder that cannot be made or written", async () => {
    await writeFile(join(folder.path, "file"), "");
    expect(await refused("--port", "0", "--blob", "file/data")).toContain("--blob file/data: ");
    expect(await refused("--port", "0", "--blob", "file")).toContain("--blob file: ");
    // No one may make folders here, not even root.
    expect(await refused("--port", "0", "--blob", "/sys/docyard")).toContain("--blob /sys/docyard: ");
    expect(await refused("--port", "0", "--db", "sqlite:/sys/docyard.db")).toContain("/sys/docyard.db");
  });

  test("a folder of someone else's", async () => {
    const locked = join(folder.path, "locked");
    await mkdir(locked, { mode: 0o555 });
    // Root may write everywhere: as root, the server is started as nobody.
    const isRoot = process.getuid?.() === 0;
    await chmod(folder.path, 0o777);
    const ran = await run(["--port", "0", "--blob", join(locked, "data")], {
      cwd: folder.path,
      ...(isRoot ? { uid: 65_534, gid: 65_534 } : {}),
    });
    expect({ code: ran.code, stdout: ran.stdout }).toEqual({ code: 1, stdout: "" });
    expect(ran.stderr).toMatch(/^docyard-server: --blob [^\n]*\n$/);
    expect(ran.stderr).toMatch(/permission|write|EACCES/);
  });
});

/** A PUT whose body is sent piece by piece. */
function slowPut(
  url: string,
  length: number,
): { readonly request: ClientRequest; answer(): Promise<IncomingMessage> } {
  const request = httpRequest(url, { method: "PUT", agent: false, headers: { "content-length": length } });
  const response = once(request, "response") as Promise<[IncomingMessage]>;
  response.catch(() => {});
  return { request, answer: async () => (await response)[0] };
}

/** Resolves when the server takes no new connections. */
async function untilClosed(port: number): Promise<void> {
  for (;;) {
    const socket = connect(port, "127.0.0.1");
    const outcome = await Promise.race([
      once(socket, "connect").then(() => "open"),
      once(socket, "error").then(() => "closed"),
    ]).catch(() => "closed");
    socket.destroy();
    if (outcome === "closed") return;
    await sleep(5);
  }
}

describe("stopping", () => {
  /** A server with half of an upload in it. */
  const half = async (...args: readonly string[]) => {
    const server = await serve(...args);
    const client = clientOf(server);
    const created = await client.create({ filename: "slow.bin" });
    const bytes = Buffer.alloc(200_000, "docyard ");
    const upload = slowPut(created.uploadUrl!, bytes.length);
    upload.request.write(bytes.subarray(0, 100_000));
    await untilReceiving(folder.path);
    return { server, client, created, bytes, upload };
  };

  test.each(["SIGTERM", "SIGINT", "SIGHUP"] as const)(
    "%s lets an upload finish, takes nothing new, and ends with 0",
    async (signal) => {
      const { server, created, bytes, upload } = await half();
      server.signal(signal);
      await untilClosed(server.port);
      upload.request.end(bytes.subarray(100_000));
      const response = await upload.answer();
      expect(response.statusCode).toBe(200);
      response.resume();
      expect(await server.exit).toEqual({ code: 0, signal: null });

      const again = await serve("--port", String(server.port));
      const client = machineClient(again.url, server.firstRun!.client, server.firstRun!.dock.id);
      expect(await client.complete(created)).toMatchObject({ id: created.id, size: bytes.length });
    },
  );

  test("a signal that arrives twice at once is one; a second one later ends it on the spot", async () => {
    const { server } = await half();
    server.signal("SIGINT");
    server.signal("SIGINT");
    await untilClosed(server.port);
    expect(server.log()).toContain("stopping");
    const goOn = setInterval(() => server.signal("SIGINT"), 50);
    expect(await server.exit).toEqual({ code: 130, signal: null });
    clearInterval(goOn);
  });

  test("what takes longer than the drain is cut off", async () => {
    const { server, upload } = await half("--drain-timeout", "200ms");
    upload.request.on("error", () => {});
    expect(await server.stop()).toEqual({ code: 0, signal: null });
    expect(server.log()).toContain("cut off what was still under way");
    await expect(upload.answer()).rejects.toThrow(/hang up|ECONNRESET/);
  });

  test("idle connections do not hold it up", async () => {
    const server = await serve();
    const socket = connect(server.port, "127.0.0.1");
    await once(socket, "connect");
    socket.write("GET /v1/healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    await once(socket, "data");
    const silent = connect(server.port, "127.0.0.1");
    await once(silent, "connect");
    expect(await server.stop()).toEqual({ code: 0, signal: null });
    expect(server.log()).not.toContain("cut off");
    socket.destroy();
    silent.destroy();
  });

  test("when npm's shell is ended under it, it ends as well", async () => {
    const shell = spawn("sh", ["-c", `"$0" "$1" --port 0 --json; true`, process.execPath, BIN], {
      cwd: folder.path,
      env: { ...process.env, npm_lifecycle_event: "npx" },
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    try {
      const [line] = (await once(shell.stdout.setEncoding("utf8"), "data")) as [string];
      const { url } = JSON.parse(line) as { url: string };
      expect((await exchange(`${url}/v1/healthz`)).status).toBe(200);
      let log = "";
      shell.stderr.setEncoding("utf8").on("data", (text: string) => (log += text));
      shell.kill("SIGTERM");
      // Closed by the server, which has the other ends of these pipes.
      await once(shell, "close");
      expect(log).toContain('"msg":"stopped"');
    } finally {
      endGroup(shell.pid!);
    }
  });

  test("a log that cannot be written costs its lines, and no request", async () => {
    // Open for reading only, so that it takes nothing, as a file on a full disk.
    const shell = ["sh", "-c", 'exec "$0" "$@" 2< /dev/null', process.execPath, BIN];
    const server = await startServer([], { cwd: folder.path, command: shell });
    for (let n = 0; n < 3; n++) expect((await exchange(`${server.url}/v1/healthz`)).status).toBe(200);
    expect(await server.stop()).toEqual({ code: 0, signal: null });
  });

  test("what could not be loaded for want of descriptors is loaded when there are some", async () => {
    const source = createHttpServer((_request, response) => response.end("1\n")).listen(0, "127.0.0.1");
    await once(source, "listening");
    const server = await serve("--allow-source", "127.0.0.0/8");
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const descriptors = async (soft: number): Promise<void> => {
      await execFileAsync("prlimit", [`--pid=${server.pid}`, `--nofile=${soft}:`]);
    };
    try {
      const { client, dock, key } = server.firstRun!;
      // On the one connection that is there already.
      const call = async (path: string, token: string, body?: object): Promise<[number, string]> => {
        const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
        const method = body === undefined ? "GET" : "POST";
        const request = httpRequest(`${server.url}${path}`, { method, agent, headers });
        request.end(body === undefined ? "" : JSON.stringify(body));
        const [answer] = (await once(request, "response")) as [IncomingMessage];
        return [answer.statusCode!, (await answer.toArray()).join("")];
      };
      const { clientId: client_id, clientSecret: client_secret } = client;
      const secrets = { grant_type: "client_credentials", client_id, client_secret };
      const [, granted] = await call("/v1/oauth/token", "", secrets);
      const { access_token: token } = JSON.parse(granted) as { access_token: string };
      const create = () => call(`/v1/machine/docks/${dock.id}/artifacts`, token, { filename: "a.pdf" });
      await descriptors(1);
      expect((await create())[0]).toBe(500);
      const url = `http://127.0.0.1:${(source.address() as AddressInfo).port}/hello.srt`;
      const wanted = { name: "Hi", type: "script", url };
      const [, made] = await call("/api/v1/artifacts/create", key.apiKey, wanted);
      const { id } = JSON.parse(made) as { id: string };
      while (!server.log().includes("attempt failed")) await sleep(10);
      await descriptors(1_024);
      expect((await create())[0]).toBe(201);
      let status = "";
      while (!/completed|failed/.test(status)) {
        await sleep(100);
        const [, shown] = await call(`/api/v1/artifacts/${id}`, key.apiKey);
        ({ status } = JSON.parse(shown) as { status: string });
      }
      expect(status).toBe("upload_completed");
    } finally {
      agent.destroy();
      source.close();
    }
  }, 60_000);

  test("an answer that cannot be written is a failure, in one line", async () => {
    const shell = ["sh", "-c", 'exec "$0" "$@" 1< /dev/null', process.execPath, BIN];
    for (const args of [
      ["org", "create", "One"],
      ["--port", "0"],
    ]) {
      const { code, stderr } = await run(args, { cwd: folder.path, command: shell });
      expect(code).toBe(1);
      expect(stderr.trimEnd().split("\n").at(-1)).toMatch(
        /^docyard-server: cannot write to standard output: .*EBADF/,
      );
    }
  });

  test("a reader of stdout that goes away does not take the server with it", async () => {
    const child = spawn("sh", ["-c", `"$0" "$1" --port 0 --json | head -n 1`, process.execPath, BIN], {
      cwd: folder.path,
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    try {
      const [line] = (await once(child.stdout.setEncoding("utf8"), "data")) as [string];
      const { url } = JSON.parse(line) as { url: string };
      expect((await exchange(`${url}/v1/healthz`)).status).toBe(200);
    } finally {
      endGroup(child.pid!);
      await once(child, "close");
    }
  });
});

/** Ends what is left of a process group. */
function endGroup(leader: number): void {
  try {
    process.kill(-leader, "SIGTERM");
  } catch {
    // Nothing is.
  }
}

/** Resolves when bytes of an upload have reached the blob folder. */
async function untilReceiving(path: string): Promise<void> {
  for (;;) {
    const names = await readdir(join(path, "data/.tmp")).catch(() => []);
    if (names.length > 0) return;
    await sleep(5);
  }
}

describe("Expect: 100-continue", () => {
  /** Sends a PUT's head and says what came back first. */
  const first = async (
    url: string,
  ): Promise<{ readonly said: number; finish(bytes: Buffer): Promise<number> }> => {
    const request = httpRequest(url, {
      method: "PUT",
      agent: false,
      headers: { expect: "100-continue", "content-length": 5 },
    });
    const continued = once(request, "continue").then(() => 100);
    const response = (once(request, "response") as Promise<[IncomingMessage]>).then(([answer]) => {
      answer.resume();
      return answer.statusCode!;
    });
    request.flushHeaders();
    const said = await Promise.race([continued, response]);
    return {
      said,
      finish(bytes) {
        request.end(bytes);
        return response;
      },
    };
  };

  test("a body is asked for when it is wanted, and refused before it is sent", async () => {
    const server = await serve();
    const { uploadUrl } = await clientOf(server).create({ filename: "expected.txt" });
    const wanted = await first(uploadUrl!);
    expect(wanted.said).toBe(100);
    expect(await wanted.finish(Buffer.from("bytes"))).toBe(200);
    expect((await first(uploadUrl!.replace(/signature=..../, "signature=0000"))).said).toBe(403);
  });
});
