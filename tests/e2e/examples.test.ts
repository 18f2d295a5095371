/**
 * Every example is started as its README says and does the whole main job, with a large body each way that nobody
 * holds whole. The examples' own tests run beside these, in the vitest project `examples`.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { memoryLimit } from "@docyard/adapters/limit/memory";
import { memoryQueue } from "@docyard/adapters/queue/memory";
import { memoryStore } from "@docyard/adapters/store/memory";
import { createDocyard, createProvisioning } from "@docyard/core";
import { createApp } from "@docyard/server";
import { afterEach, describe, expect, test } from "vitest";
import { sqliteBlobs } from "../../examples/custom-blob/src/sqlite-blobs.ts";
import { NODE_ARGS } from "../sources.ts";
import { blocksOf } from "./docs-markdown.ts";
import { diskOf, doMainJob, firstRunIn, LARGE_MIB, streamLarge, type Target, until } from "./example-kit.ts";
import { tempFolder } from "./program.ts";

const EXAMPLES = join(import.meta.dirname, "../../examples");
const MIB = 1024 ** 2;

const toDo: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (let undo = toDo.pop(); undo !== undefined; undo = toDo.pop()) await undo();
});
/** Whatever still runs when the tests end, however they end, ends too. */
const alive = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of alive) child.kill("SIGKILL");
});

async function newFolder(): Promise<string> {
  const folder = await tempFolder();
  toDo.push(() => folder.remove());
  return folder.path;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

interface Started {
  readonly child: ChildProcess;
  /** What it has printed so far. */
  readonly printed: () => string;
  /** Resolves to its exit code. */
  readonly ended: Promise<number | null>;
}

/** Runs what the example's own `npm start` would, on the packages' sources. */
function start(
  name: string,
  args: readonly string[],
  env: Record<string, string>,
  { takesInput = false } = {},
): Started {
  const { scripts } = JSON.parse(readFileSync(join(EXAMPLES, name, "package.json"), "utf8")) as {
    readonly scripts: { readonly start: string };
  };
  const file = /^node (\S+)$/.exec(scripts.start)?.[1];
  if (file === undefined) throw new Error(`${name} is not started by node alone`);
  // Its input is a pipe, as a shell would make it; Node's own are sockets, which cannot be opened by a path.
  const command = [process.execPath, ...NODE_ARGS, file, ...args];
  const child = spawn("sh", ["-c", takesInput ? 'cat | "$@"' : 'exec "$@"', "sh", ...command], {
    cwd: join(EXAMPLES, name),
    env: { PATH: process.env["PATH"]!, ...env },
    stdio: ["pipe", "pipe", "pipe"],
  });
  alive.add(child);
  let printed = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      printed += text;
    });
  }
  const ended = once(child, "close").then(([code]) => {
    alive.delete(child);
    return code as number | null;
  });
  toDo.push(async () => {
    child.kill("SIGKILL");
    await ended;
  });
  return { child, printed: () => printed, ended };
}

test("every example is among these, and says in its README what it is", () => {
  const tested = ["custom-blob", "express", "fastify", "hono", "next-route", "node-script", "vitest-double"];
  expect(readdirSync(EXAMPLES).toSorted()).toEqual(tested);
  for (const name of tested) {
    const readme = readFileSync(join(EXAMPLES, name, "README.md"), "utf8");
    expect(readme.split("\n").length).toBeLessThan(20);
  }
});

describe("the guide to embedding", () => {
  const blocks = blocksOf("docs/embed.md").filter(({ language }) => language === "ts");
  const shown = blocks.map(({ file, role, words, text }) => ({
    source: file === null ? (words[0] ?? "") : "examples/hono/src/server.ts",
    role,
    text,
  }));

  test.each(shown)("shows $source as it is", ({ source, role, text }) => {
    expect(["file", "norun"]).toContain(role);
    const lines = readFileSync(join(EXAMPLES, "..", source), "utf8").split("\n");
    // Indented as it may be there; left out, with a line of its own, what it says.
    for (const part of text.trimEnd().split("\n// …\n")) {
      const wanted = part.split("\n");
      const at = lines.findIndex((_, start) =>
        wanted.every((line, offset) => lines[start + offset]?.trim() === line.trim()),
      );
      expect(at, `${source} has no\n${part}`).toBeGreaterThanOrEqual(0);
    }
  });

  test("shows something of every example", () => {
    const folders = new Set(shown.map(({ source }) => source.split("/")[1]));
    expect(folders).toEqual(new Set(readdirSync(EXAMPLES)));
  });
});

describe.each(["hono", "express", "fastify"])("%s", (name) => {
  test("serves docyard below a path, beside the app's own routes, and stops when it is told to", async () => {
    const folder = await newFolder();
    const port = await freePort();
    const { child, printed, ended } = start(name, [], { PORT: String(port), FOLDER: folder });
    let code: number | null | undefined;
    void ended.then((value) => (code = value));
    await until(async () => {
      if (code !== undefined) throw new Error(`${name} ended:\n${printed()}`);
      return printed().includes("listening on");
    });
    const url = `http://localhost:${port}/files`;
    const target: Target = { url, fetch, ...firstRunIn(printed()), ...diskOf(join(folder, "data")) };

    expect(await (await fetch(`http://localhost:${port}/`)).text()).toBe("An app with files.\n");
    expect((await fetch(`http://localhost:${port}/v1/healthz`)).status).toBe(404);
    const metadata = (await (await fetch(`${url}/.well-known/oauth-authorization-server`)).json()) as object;
    expect(metadata).toMatchObject({ issuer: url, token_endpoint: `${url}/v1/oauth/token` });
    await doMainJob(target);
    await streamLarge(target);

    child.kill("SIGTERM");
    expect({ code: await ended, printed: printed().replace(/^first start:.*\n/m, "") }).toEqual({
      code: 0,
      printed: `listening on http://localhost:${port}\n`,
    });
  });
});

test("next-route: the handlers do it all, called with requests as Next calls them", async () => {
  const folder = await newFolder();
  process.env["FOLDER"] = folder;
  const lines: string[] = [];
  const { log } = console;
  console.log = (...words: unknown[]) => void lines.push(words.join(" "));
  toDo.push(async () => {
    console.log = log;
    delete process.env["FOLDER"];
  });
  const route = await import("../../examples/next-route/app/files/[...path]/route.ts");
  const { files } = await import("../../examples/next-route/lib/docyard.ts");
  const { yard, background } = await files();
  toDo.push(async () => {
    await background.stop();
    await yard.close();
  });
  // What Next takes from such a file: methods by their names, and settings that it can read without running it.
  const { DELETE, GET, OPTIONS, POST, PUT, ...settings } = route;
  const handlers: Record<string, (request: Request) => Promise<Response>> = {
    DELETE,
    GET,
    OPTIONS,
    POST,
    PUT,
  };
  expect(settings).toEqual({ runtime: "nodejs", dynamic: "force-dynamic" });
  const target: Target = {
    url: "http://localhost:3000/files",
    fetch: (url, init) => {
      const request = new Request(url, init);
      return handlers[request.method]!(request);
    },
    ...firstRunIn(lines.join("\n")),
    ...diskOf(join(folder, "data")),
  };
  await doMainJob(target);
  await streamLarge(target);
  expect((await target.fetch("http://localhost:3000/elsewhere")).status).toBe(404);
});

test("node-script: files what it is given, once, and a stream as it comes", async () => {
  const folder = join(await newFolder(), "yard");
  const small = join(await newFolder(), "small.txt");
  await writeFile(small, "small");
  const first = start("node-script", [folder, small, small], {});
  expect({ code: await first.ended, printed: first.printed() }).toEqual({
    code: 0,
    printed: `${sha256("small")} 5 small.txt\n`,
  });

  const second = start("node-script", [folder, "/dev/fd/0"], {}, { takesInput: true });
  const hash = createHash("sha256");
  const disk = diskOf(join(folder, "data"));
  for (let sent = 0; sent < LARGE_MIB; sent++) {
    if (sent === LARGE_MIB / 2) await until(async () => (await disk.stored()) >= MIB);
    const chunk = new Uint8Array(MIB).fill(sent);
    hash.update(chunk);
    if (!second.child.stdin!.write(chunk)) await once(second.child.stdin!, "drain");
  }
  second.child.stdin!.end();
  expect({ code: await second.ended, printed: second.printed() }).toEqual({
    code: 0,
    printed: `${hash.digest("hex")} ${LARGE_MIB * MIB} 0\n${sha256("small")} 5 small.txt\n`,
  });
});

test("custom-blob: a docyard on it does it all", async () => {
  const file = join(await newFolder(), "blobs.db");
  const url = "http://docyard.test";
  const store = memoryStore();
  const blobs = sqliteBlobs(file, { baseUrl: url, secret: new Uint8Array(32).fill(7) });
  const docyard = createDocyard({ store, blobs, queue: memoryQueue(), limit: memoryLimit() });
  const provisioning = createProvisioning(store.accounts);
  const made = (await provisioning.firstRun())!;
  const app = createApp({ docyard, provisioning, blobs, version: "1.0.0", publicUrl: () => url });
  const look = new DatabaseSync(file);
  toDo.push(async () => {
    look.close();
    await blobs.close();
    await store.close();
  });
  const target: Target = {
    url,
    fetch: async (to, init) => app.fetch(new Request(to, init)),
    credentials: { clientId: made.client.clientId, clientSecret: made.clientSecret },
    dockId: made.dock.id,
    stored: async () => Number(look.prepare("SELECT sum(length(bytes)) AS sum FROM piece").get()!["sum"]),
    async damage() {
      look.exec("DELETE FROM piece WHERE start = (SELECT max(start) FROM piece)");
    },
  };
  await doMainJob(target);
  await streamLarge(target);
});

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
