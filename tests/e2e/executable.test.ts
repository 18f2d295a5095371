/**
 * The one executable, alone: made from the sources, put where there is no Node and nothing else, and asked to do the
 * whole job there. What the program itself must do is proven by the other tests here; this one, that all of it is inside.
 */

import { createHash } from "node:crypto";
import { chmod, mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bundle } from "../../packages/cli/exe/bundle.ts";
import { download, exchange, machineClient } from "./client.ts";
import {
  EMPTY_ROOT,
  emptyRoot,
  type Made,
  makeExecutable,
  NOBODY,
  NOEXEC,
  noexec,
  type Place,
  ROOT,
} from "./executable-kit.ts";
import { mp4, pdf, sha256 } from "./files.ts";
import { run, runJson, type Server, startServer, tempFolder } from "./program.ts";
import { until } from "./studio-kit.ts";
import { startOrigin } from "./studio-origin.ts";

/** How the drivers say that nobody is there. */
const UNREACHABLE = /refused|nothing (answers|listens)|cannot (connect|be reached)/i;
/** How Node says that a module is not there. */
const NOT_INSIDE = /cannot find (module|package)|no such built-in|is not a (function|constructor)/i;
const BUCKET = "s3://bucket?endpoint=http://127.0.0.1:1&region=us-east-1";
const AWS = { AWS_ACCESS_KEY_ID: "id", AWS_SECRET_ACCESS_KEY: "key" };
const SIZE_MAX = 120_000_000;
/** Making it twice takes as long as all other tests here together. */
const IS_FULL = process.env["DOCYARD_TEST_FULL"] === "1";

let folder: Awaited<ReturnType<typeof tempFolder>>;
let made: Made;

beforeAll(async () => {
  folder = await tempFolder();
  made = await makeExecutable(folder.path);
}, 180_000);
afterAll(() => folder?.remove());

/** `env -i`: not one variable. */
const BARE = { bare: true } as const;

/** The main job, from the first token to the same bytes again, and what monitoring asks. */
async function mainJob(server: Server): Promise<void> {
  const client = machineClient(server.url, server.firstRun!.client, server.firstRun!.dock.id);
  const bytes = pdf("Discharge summary (12345)");
  const sent = { filename: "summary.pdf", metadata: { patientId: "12345" } };
  const stored = await client.send(sent, () => bytes);
  expect(stored).toMatchObject({ ...sent, size: bytes.length, hash: `sha256:${sha256(bytes)}` });
  const { data } = await client.list({ metadata: JSON.stringify({ patientId: "12345" }), search: "SUMMARY" });
  expect(data.map(({ id }) => id)).toEqual([stored.id]);
  expect(await download(data[0]!.downloadUrl)).toEqual({
    status: 200,
    size: bytes.length,
    digest: sha256(bytes),
  });
  const metrics = await exchange(`${server.url}/metrics`);
  expect(metrics.status).toBe(200);
  expect(metrics.body.toString()).toContain("process_cpu_seconds_total");
  // The page that shows the API has its script from inside, too.
  const reference = await exchange(`${server.url}/docs/reference.js`);
  expect([reference.status, reference.body.length > 100_000]).toEqual([200, true]);
}

const storeIn = (data: string): string[] => ["--db", `sqlite:${data}/docyard.db`, "--blob", `${data}/blobs`];

async function startIn(place: Place, ...args: readonly string[]): Promise<Server> {
  return startServer([...storeIn(place.data), ...args], { cwd: place.path, command: place.command, ...BARE });
}

describe("the files", () => {
  test("the executable is bounded, and its sum is right", async () => {
    const bytes = await readFile(made.path);
    expect(bytes.length).toBeLessThanOrEqual(SIZE_MAX);
    const sums = (await made.read("SHA256SUMS")).trim().split("\n");
    expect(sums).toContain(`${createHash("sha256").update(bytes).digest("hex")}  ${made.name}`);
    const named = sums.map((line) => line.split("  ")[1]);
    expect(named).toEqual((await readdir(made.folder)).filter((name) => name !== "SHA256SUMS").sort());
  });

  test("nothing inside tells where it was made", async () => {
    const bytes = await readFile(made.path);
    expect(bytes.includes(ROOT)).toBe(false);
    expect(bytes.includes(made.folder)).toBe(false);
    expect(bytes.includes("docyard-exe-")).toBe(false);
  });

  interface Bom {
    readonly bomFormat: string;
    readonly specVersion: string;
    readonly serialNumber: string;
    readonly version: number;
    readonly metadata: { readonly component: Component & { readonly hashes: readonly object[] } };
    readonly components: readonly Component[];
    readonly dependencies: readonly { readonly ref: string; readonly dependsOn?: readonly string[] }[];
  }
  interface Component {
    readonly type: string;
    readonly "bom-ref": string;
    readonly group?: string;
    readonly name: string;
    readonly version: string;
    readonly purl: string;
    readonly licenses: readonly {
      readonly license?: { readonly id: string };
      readonly expression?: string;
    }[];
  }
  const readBom = async (): Promise<Bom> => JSON.parse(await made.read(`${made.name}.cdx.json`)) as Bom;

  test("the bill of materials is CycloneDX 1.6, complete in what that asks for", async () => {
    const bom = await readBom();
    expect(bom).toMatchObject({ bomFormat: "CycloneDX", specVersion: "1.6", version: 1 });
    expect(bom.serialNumber).toMatch(
      /^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$/,
    );
    expect(bom.metadata.component).toMatchObject({ type: "application", name: "docyard-server" });
    const digest = createHash("sha256").update(await readFile(made.path));
    expect(bom.metadata.component.hashes).toEqual([{ alg: "SHA-256", content: digest.digest("hex") }]);
    for (const component of [bom.metadata.component, ...bom.components]) {
      expect(component.type).toMatch(/^(application|platform|library)$/);
      expect(component.name).not.toBe("");
      expect(component.version).toMatch(/^\d/);
      expect(component.purl).toMatch(/^pkg:(npm|generic)\/[\w.~%/-]+@[\w.+-]+$/);
      expect(component.licenses).toHaveLength(1);
      const [{ license, expression } = {}] = component.licenses;
      expect(license?.id ?? expression).toMatch(/^\(?[A-Za-z0-9.-]+( (OR|AND) [A-Za-z0-9.-]+)*\)?$/);
    }
    const refs = [bom.metadata.component, ...bom.components].map((one) => one["bom-ref"]);
    expect(new Set(refs).size).toBe(refs.length);
    expect(bom.dependencies.map(({ ref }) => ref).sort()).toEqual(refs.sort());
    for (const { dependsOn = [] } of bom.dependencies)
      expect(refs).toEqual(expect.arrayContaining([...dependsOn]));
  });

  test("it lists what the program cannot do without, and every licence text is there", async () => {
    const { components } = await readBom();
    const names = components.map(({ group, name }) => (group === undefined ? name : `${group}/${name}`));
    const needed = ["node", "sqlite", "better-sqlite3", "hono", "jose", "zod", "kysely", "yargs", "pg"];
    const drivers = ["@aws-sdk/client-s3", "ioredis", "bullmq", "undici", "mediabunny"];
    expect(names).toEqual(expect.arrayContaining([...needed, ...drivers]));
    expect(names.filter((name) => /vitest|typescript|esbuild|@types|@docyard/.test(name))).toEqual([]);
    const texts = await made.read("docyard-server.LICENSES.txt");
    for (const { group, name, version, purl } of components) {
      if (!purl.startsWith("pkg:npm/")) continue;
      expect(texts).toContain(`\n${group === undefined ? name : `${group}/${name}`} ${version} (`);
    }
  });

  test("made again, it is the same file (by default: of the same scripts)", async () => {
    if (!IS_FULL) {
      expect(await bundle()).toEqual(await bundle());
      return;
    }
    const other = await tempFolder();
    try {
      const again = await makeExecutable(other.path);
      expect(await again.read("SHA256SUMS")).toBe(await made.read("SHA256SUMS"));
    } finally {
      await other.remove();
    }
  });
});

describe("from its own folder", () => {
  const here = () => ({ cwd: folder.path, command: [made.path], ...BARE });

  test("--version and --help", async () => {
    const manifest = await readFile(join(ROOT, "packages/cli/package.json"), "utf8");
    const { version } = JSON.parse(manifest) as { readonly version: string };
    expect(await run(["--version"], here())).toEqual({ code: 0, stdout: `${version}\n`, stderr: "" });
    const help = await run(["--help"], here());
    expect(help).toMatchObject({ code: 0, stderr: "" });
    expect(help.stdout).toContain("docyard-server [serve] [options]");
    expect(help.stdout).toContain("--public-url");
  });

  test("a misspelt option is the operator's mistake, told in one line", async () => {
    const { code, stdout, stderr } = await run(["--prot", "1"], here());
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toMatch(/^docyard-server: unknown option --prot \(did you mean --port\?\).*\n$/);
  });

  test("the drivers of PostgreSQL, S3 and Redis are inside: each finds nobody there, in its own words", async () => {
    const args = ["--db", "postgres://user:secret@127.0.0.1:1/db", "--queue", "redis://127.0.0.1:1"];
    const how = { ...here(), env: AWS };
    const { code, stdout } = await run(["doctor", ...args, "--blob", BUCKET, "--json"], how);
    expect(code).toBe(1);
    expect(stdout).not.toMatch(NOT_INSIDE);
    const { findings } = JSON.parse(stdout) as {
      findings: { part: string; outcome: string; detail: string }[];
    };
    for (const part of ["store", "blobs", "queue"]) {
      const failing = findings.filter((one) => one.part === part && one.outcome === "failing");
      expect(failing.map(({ detail }) => detail).join()).toMatch(UNREACHABLE);
    }
    const served = await run(["serve", "--port", "0", ...args.slice(0, 2)], here());
    expect(served.stderr).toMatch(UNREACHABLE);
    expect(served.stderr).toMatch(/^docyard-server: --db /);
  });

  test("a server whose bucket and Redis are away starts, and says that it is not ready", async () => {
    const { path: cwd, remove } = await tempFolder();
    const server = await startServer(["--db", "memory", "--queue", "redis://127.0.0.1:1", "--blob", BUCKET], {
      ...here(),
      cwd,
      env: AWS,
    });
    try {
      const answer = await fetch(`${server.url}/v1/readyz`);
      expect(answer.status).toBe(503);
      expect(await answer.json()).toMatchObject({
        checks: { store: "ok", blobs: "failing", queue: "failing" },
      });
      expect(server.log()).not.toMatch(NOT_INSIDE);
    } finally {
      await server.kill();
      await remove();
    }
  });

  test("media are read and joined by a thread whose code is inside", async () => {
    const data = join(folder.path, "studio");
    await mkdir(data);
    const origin = await startOrigin();
    const server = await startServer([...storeIn(data), "--allow-source", "127.0.0.0/8"], here());
    try {
      const headers = {
        authorization: `Bearer ${server.firstRun!.key.apiKey}`,
        "content-type": "application/json",
      };
      const api = `${server.url}/api/v1/artifacts`;
      const fragments = [0, 2].map((startTime) => ({
        url: origin.publish(mp4(`part ${startTime}`, 2), "part.mp4"),
        startTime,
      }));
      const body = JSON.stringify({ name: "Voice", type: "audio", fragments });
      const created = await fetch(`${api}/create`, { method: "POST", headers, body });
      expect(created.status).toBe(201);
      const { id } = (await created.json()) as { readonly id: string };
      const done = await until("the fragments are joined", async () => {
        const answer = await fetch(`${api}/${id}`, { headers });
        const artifact = (await answer.json()) as { readonly status: string };
        return /completed|failed/.test(artifact.status) ? artifact : null;
      });
      expect(done).toMatchObject({ status: "upload_completed", errorMessage: null, duration: 4 });
    } finally {
      await server.kill();
      await origin.close();
    }
  });
});

describe(`in ${EMPTY_ROOT}, without one variable`, () => {
  test.each([
    ["as whoever runs the tests", undefined],
    ["as nobody, who may write nowhere but in the data folder", NOBODY],
  ])("the whole main job %s; SIGTERM ends it and nothing is left behind", async (_, user) => {
    const place = await emptyRoot(made.path, user);
    try {
      const server = await startIn(place);
      await mainJob(server);
      const ask = ["health", "--port", String(server.port), "--json"];
      const how = { cwd: place.path, command: place.command, ...BARE };
      expect(await run(ask, how)).toEqual({ code: 0, stdout: '{"status":"ready"}\n', stderr: "" });
      expect(await server.stop()).toEqual({ code: 0, signal: null });
      expect(await run(ask, how)).toMatchObject({ code: 1, stdout: expect.stringContaining("ECONNREFUSED") });
      const data = join(place.path, "data");
      expect((await readdir(data)).sort()).toEqual(["blobs", "docyard.db"]);
      expect(await readdir(join(data, "blobs", ".tmp"))).toEqual([]);
      const again = await startIn(place);
      expect(again.firstRun).toBeNull();
      expect(await again.stop()).toEqual({ code: 0, signal: null });
    } finally {
      await place.remove();
    }
  });

  test("operators' commands work there, too", async () => {
    const place = await emptyRoot(made.path);
    try {
      const how = { cwd: place.path, command: place.command, ...BARE };
      const db = storeIn(place.data).slice(0, 2);
      await run(["org", "create", "Clinic", ...db], how);
      expect(await runJson(["dock", "create", "dock_a", ...db], how)).toMatchObject({ id: "dock_a" });
      expect(await runJson(["dock", "list", ...db], how)).toMatchObject([{ id: "dock_a" }]);
    } finally {
      await place.remove();
    }
  });
});

describe(`TMPDIR ${NOEXEC}`, () => {
  test("the SQLite library is loaded from another folder, and leaves nothing there", async () => {
    const { path: cwd, remove } = await tempFolder();
    try {
      const temporary = await deadFolder(cwd);
      const server = await startServer(storeIn(cwd), {
        cwd,
        command: noexec([temporary], [made.path]),
        env: { TMPDIR: temporary, PATH: process.env["PATH"]! },
        ...BARE,
      });
      await mainJob(server);
      expect(await server.stop()).toEqual({ code: 0, signal: null });
      expect((await readdir(cwd)).sort()).toEqual(["blobs", "docyard.db", "tmp"]);
    } finally {
      await remove();
    }
  });

  test("when no folder takes it, the operator is told which were tried and what to do", async () => {
    const { path: cwd, remove } = await tempFolder();
    try {
      const temporary = await deadFolder(cwd);
      const data = join(cwd, "data");
      await mkdir(data);
      // A database in a folder that is read-only, with nowhere else to go, where nobody may mount.
      if (NOEXEC !== "mounted noexec") await chmod(data, 0o500);
      const { code, stdout, stderr } = await run(["migrate", ...storeIn(data).slice(0, 2)], {
        cwd: data,
        command: noexec(
          ["/dev/shm", temporary, data],
          ["sh", "-ec", 'cd "$0" && exec "$@"', data, made.path],
        ),
        env: { TMPDIR: temporary, PATH: process.env["PATH"]! },
        ...BARE,
      });
      if (NOEXEC === "mounted noexec") {
        expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
        expect(stderr).toMatch(/no folder takes the SQLite library; set TMPDIR/);
        expect(stderr).toContain(`${temporary}: `);
        expect(stderr.trim().split("\n")).toHaveLength(1);
      } else {
        // The system's shared memory may still take it: then the folder's own fault is told.
        expect(stderr).toMatch(/SQLite library|not writable|permission/);
      }
    } finally {
      await remove();
    }
  });

  /** A temporary folder that is of no use; the mount that makes it so comes with the command. */
  async function deadFolder(cwd: string): Promise<string> {
    const path = join(cwd, "tmp");
    if (NOEXEC === "mounted noexec") await mkdir(path);
    else await writeFile(path, "a file where a folder should be");
    await stat(path);
    return path;
  }
});
