/**
 * The operator's commands through the executable: what they print with and without `--json`, what they refuse, and that
 * they work while a server runs on the same store.
 */

import { copyFile, mkdir, open, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import Database from "better-sqlite3";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { exchange, machineClient } from "./client.ts";
import { BIN, build, type Credentials, run, runJson, startServer, tempFolder } from "./program.ts";

const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

let folder: Awaited<ReturnType<typeof tempFolder>>;

beforeAll(build);

beforeEach(async () => {
  folder = await tempFolder();
});

afterEach(() => folder.remove());

const here = (): { cwd: string } => ({ cwd: folder.path });

type Client = Credentials & { readonly id: string; readonly isActive: boolean };

describe("help and version", () => {
  test("--version is the package's", async () => {
    const manifest = JSON.parse(await readFile(join(BIN, "../../package.json"), "utf8")) as {
      version: string;
    };
    expect(await run(["--version"], here())).toEqual({
      code: 0,
      stdout: `${manifest.version}\n`,
      stderr: "",
    });
  });

  test.each([
    ["--help"],
    ["-h"],
    ["serve", "--help"],
    ["client", "create", "-h"],
    ["client", "--help"],
    ["client", "create", "--help"],
    ["--json", "--help"],
  ])("%s %s prints help and does nothing else", async (...args) => {
    const { code, stdout, stderr } = await run(args, here());
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^docyard-server/);
    expect(stdout).toContain("Options:");
    expect(await readdir(folder.path)).toEqual([]);
  });

  test("the help names every command, and what may be chosen", async () => {
    const { stdout } = await run(["--help"], here());
    for (const word of ["serve", "org", "dock", "client", "key", "migrate"]) {
      expect(stdout).toMatch(new RegExp(`^  docyard-server ${word}\\b`, "m"));
    }
    for (const flag of [
      "--db",
      "--blob",
      "--queue",
      "--port",
      "--public-url",
      "--allow-source",
      "--max-size",
    ]) {
      expect(stdout).toContain(`  ${flag} `);
    }
    expect(stdout).toContain("sqlite[:FILE]");
    expect(stdout).toContain("DOCYARD_MAX_SIZE");
  });
});

describe("commands print one JSON document, or text", () => {
  test("org, dock, client and key", async () => {
    const organization = await runJson<{ id: string }>(["org", "create", "Metro Health"], here());
    expect(organization).toEqual({
      id: expect.stringMatching(/^org_/),
      name: "Metro Health",
      createdAt: expect.stringMatching(ISO),
    });

    const dock = await runJson(["dock", "create", "dock_metro"], here());
    expect(dock).toEqual({
      id: "dock_metro",
      name: "dock_metro",
      organizationId: organization.id,
      createdAt: expect.stringMatching(ISO),
    });

    const scopes = "artifacts:read artifacts:write";
    const client = await runJson<Client>(
      ["client", "create", "--name", "Scanner 1", "--dock", "dock_metro", "--scopes", scopes],
      here(),
    );
    expect(client).toEqual({
      id: expect.stringMatching(/^mc_/),
      clientId: expect.stringMatching(/^dyc_scanner_1_/),
      clientSecret: expect.stringMatching(/^dys_live_\w{40,}$/),
      name: "Scanner 1",
      scopes: ["artifacts:read", "artifacts:write"],
      dockId: "dock_metro",
      organizationId: organization.id,
      isActive: true,
      createdAt: expect.stringMatching(ISO),
    });

    const key = await runJson<{ id: string }>(
      ["key", "create", "--name", "Studio", "--dock", "dock_metro"],
      here(),
    );
    expect(key).toEqual({
      id: expect.stringMatching(/^key_/),
      apiKey: expect.stringMatching(/^dk_live_\w{40,}$/),
      name: "Studio",
      dockId: "dock_metro",
      organizationId: organization.id,
      createdAt: expect.stringMatching(ISO),
    });

    const { clientSecret: first, ...known } = client;
    const rotated = await runJson<Client>(["client", "rotate", client.clientId], here());
    expect(rotated).toEqual({ ...known, clientSecret: expect.stringMatching(/^dys_live_/) });
    expect(rotated.clientSecret).not.toBe(first);

    expect(await runJson(["client", "disable", client.id], here())).toEqual({ ...known, isActive: false });
    expect(await runJson(["client", "list"], here())).toEqual([{ ...known, isActive: false }]);
    expect(await runJson(["org", "list"], here())).toEqual([organization]);
    expect(await runJson(["dock", "list", "--org", organization.id], here())).toEqual([dock]);
    expect(await runJson(["key", "list"], here())).toMatchObject([{ id: key.id, isActive: true }]);
    expect(JSON.stringify(await runJson(["key", "list"], here()))).not.toContain("dk_live_");
  });

  test("the same as text, for people", async () => {
    const text = async (...args: string[]): Promise<string> => {
      const { code, stdout, stderr } = await run(args, here());
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
      return stdout;
    };
    await text("migrate");
    expect(await text("dock", "list")).toBe("none\n");
    expect(await text("org", "create", "Metro")).toMatch(
      /^Organization org_\w+ created\.\n\n {2}id +org_\w+\n/,
    );
    expect(await text("dock", "create", "d1", "--name", "First dock")).toMatch(
      /^Dock d1 created\.[^]* First dock\n/,
    );
    const client = await text("client", "create", "--name", "scanner");
    expect(client).toMatch(/shown this once\.[^]*clientSecret +dys_live_\w+\n/);
    expect(client).toMatch(/dockId +-\n/);
    expect(await text("key", "create", "--name", "k", "--dock", "d1")).toMatch(/apiKey +dk_live_\w+\n/);
    const id = /mc_\w+/.exec(client)![0];
    expect(await text("client", "rotate", id)).toMatch(/has a new secret[^]*dys_live_/);
    expect(await text("client", "disable", id)).toMatch(/disabled\.[^]*isActive +false\n/);
    expect(await text("client", "list")).toMatch(/^id +clientId +name[^\n]*\nmc_\w+ +dyc_scanner_/);
    expect(await text("org", "list")).toMatch(/^id +name +createdAt\norg_\w+ +Metro +\d/);
    expect(await text("key", "list")).not.toContain("dk_live_");
    expect(await text("migrate")).toMatch(/^The tables are up to date \(schema \d+\)\.\n$/);
  });

  test("migrate makes the tables, once", async () => {
    const first = await runJson<{ to: number }>(["migrate"], here());
    expect(first).toEqual({ db: "sqlite", from: 0, to: expect.any(Number) });
    expect(await runJson(["migrate"], here())).toEqual({ db: "sqlite", from: first.to, to: first.to });
  });
});

describe("provisioning while the server runs", () => {
  test("what a command makes works at once, and what it takes away stops", async () => {
    const server = await startServer([], here());
    try {
      expect(await runJson<object[]>(["client", "list"], here())).toHaveLength(1);
      await runJson(["dock", "create", "dock_late"], here());
      const made = await runJson<Client>(
        ["client", "create", "--name", "late", "--dock", "dock_late"],
        here(),
      );
      const client = machineClient(server.url, made, "dock_late");
      const stored = await client.send({ filename: "late.txt" }, () => Buffer.from("late"));
      expect((await client.list()).data.map(({ id }) => id)).toEqual([stored.id]);

      const rotated = await runJson<Client>(["client", "rotate", made.id], here());
      await expect(machineClient(server.url, made, "dock_late").token()).rejects.toMatchObject({
        status: 401,
      });
      expect(await machineClient(server.url, rotated, "dock_late").token()).toMatch(/^dyt_live_/);

      await runJson(["client", "disable", made.id], here());
      await expect(client.list()).rejects.toMatchObject({ status: 401 });
      await expect(machineClient(server.url, rotated, "dock_late").token()).rejects.toMatchObject({
        status: 403,
      });
    } finally {
      await server.stop();
    }
  });
});

describe("the keys that sign", () => {
  const stateOf = (keys: readonly { id: string; state: string }[]): object =>
    Object.fromEntries(keys.map(({ id, state }) => [id, state]));

  test("are listed and rotated without their secrets, as JSON and as text", async () => {
    await runJson(["migrate"], here());
    expect(await runJson(["signing", "list"], here())).toEqual([]);
    expect(await runJson(["signing", "rotate"], here())).toMatchObject({
      made: ["token-1", "url-1"],
      revoked: [],
      within: "30s",
    });
    const keys = await runJson<{ id: string; state: string }[]>(["signing", "list"], here());
    expect(keys).toEqual([
      { id: "token-1", signs: "tokens", state: "signing", createdAt: expect.stringMatching(ISO) },
      { id: "url-1", signs: "urls", state: "signing", createdAt: expect.stringMatching(ISO) },
    ]);
    const { stdout: kept } = await run(["signing", "rotate", "--only", "urls"], here());
    expect(kept).toMatch(/^From now on url-2 signs; running servers follow within 30s\.\n/);
    expect(kept).toMatch(
      /older keys signed stays valid until it runs out: signed URLs handed out so far\.\n/,
    );
    expect(kept).toMatch(/--blob s3:[^]*nothing changes for them[^]*\nurl-1 +urls +verifying /);
    const { stdout: ended } = await run(["signing", "rotate", "--revoke", "--only", "tokens"], here());
    expect(ended).toMatch(/^From now on token-2 signs[^]*stops working by then: tokens handed out so far\./);
    expect(ended).not.toContain("s3:");
    const { keys: after } = await runJson<{ keys: { id: string; state: string }[] }>(
      ["signing", "rotate", "--revoke"],
      here(),
    );
    expect(stateOf(after)).toEqual({
      "token-1": "revoked",
      "token-2": "revoked",
      "token-3": "signing",
      "url-1": "revoked",
      "url-2": "revoked",
      "url-3": "signing",
    });
    const db = new Database(join(folder.path, "docyard.db"), { readonly: true });
    const stored = JSON.stringify(db.prepare("select * from account where kind = 'serverKey'").all());
    db.close();
    const { stdout: listed } = await run(["signing", "list"], here());
    for (const secret of stored.match(/[\w-]{43}/g)!) expect(kept + ended + listed).not.toContain(secret);
  });

  test("are taken up by a running server; with --revoke all that was signed before ends", async () => {
    const server = await startServer([], here());
    try {
      const { client: credentials } = server.firstRun!;
      const client = machineClient(server.url, credentials, "dock_default");
      await client.send({ filename: "a.txt" }, () => Buffer.from("bytes"));
      const token = await client.token();
      const [old] = (await client.list()).data;
      await runJson(["signing", "rotate"], here());
      expect((await exchange(old!.downloadUrl)).status).toBe(200);
      await runJson(["signing", "rotate", "--revoke"], here());
      // Nobody waits for half a minute here: what no known key fits has the server look at once.
      const list = (bearer: string): Promise<{ readonly status: number }> =>
        exchange(`${server.url}/v1/machine/docks/dock_default/artifacts`, {
          headers: { authorization: `Bearer ${bearer}` },
        });
      const head = Buffer.from('{"alg":"EdDSA","typ":"at+jwt","kid":"invented"}').toString("base64url");
      expect((await list(token.replace(/(?<=^dyt_live_)[^.]+/, head))).status).toBe(401);
      expect((await exchange(old!.downloadUrl.replace(/signature=./, "signature=_"))).status).toBe(403);
      expect((await list(token)).status).toBe(401);
      expect((await exchange(old!.downloadUrl)).status).toBe(403);
      const again = machineClient(server.url, credentials, "dock_default");
      const [fresh] = (await again.list()).data;
      expect((await exchange(fresh!.downloadUrl)).body.toString()).toBe("bytes");
    } finally {
      await server.stop();
    }
  });
});

describe("what a dock may hold, and for how long", () => {
  test("is set while the server runs, and kept from the next request on", async () => {
    const server = await startServer([], here());
    try {
      const client = machineClient(server.url, server.firstRun!.client, "dock_default");
      const old = await client.send({ filename: "old.txt", metadata: { kind: "scan" } }, () =>
        Buffer.from("1"),
      );
      const quota = ["dock", "quota", "dock_default", "--bytes", "1KiB", "--artifacts", "1"];
      expect(await runJson(quota, here())).toMatchObject({
        quota: { bytes: 1_024, artifacts: 1 },
        usage: { artifacts: 1, open: 0, bytes: 1 },
      });
      await expect(client.send({ filename: "new.txt" }, () => Buffer.from("2"))).rejects.toMatchObject({
        status: 409,
      });
      const retention = ["dock", "retention", "dock_default"];
      expect(
        await runJson([...retention, "--after", "90d", "--metadata", '{"kind":"scan"}'], here()),
      ).toMatchObject({ retention: [{ after: "90d", metadata: { kind: "scan" } }] });
      expect(await runJson([...retention, "--after", "1m"], here())).toMatchObject({
        retention: [{ after: "90d" }, { after: "1m" }],
      });
      expect(await runJson(["retention"], here())).toEqual({
        dryRun: true,
        artifacts: 0,
        bytes: 0,
        docks: [],
        failed: [],
      });
      expect((await run(["retention"], here())).stdout).toMatch(/0 artifacts \(0 B\) would be deleted/);
      expect(await runJson([...retention, "--clear"], here())).not.toHaveProperty("retention");
      expect(await runJson(["dock", "quota", "dock_default"], here())).not.toHaveProperty("quota");
      expect((await client.list()).data.map(({ id }) => id)).toEqual([old.id]);
    } finally {
      await server.stop();
    }
  });

  test("a server that is read-only hands out and takes nothing; one that is nearly full says 507", async () => {
    const first = await startServer([], here());
    const client = machineClient(first.url, first.firstRun!.client, "dock_default");
    const stored = await client.send({ filename: "1.txt" }, () => Buffer.from("1"));
    await first.stop();
    for (const [flags, status] of [
      [["--read-only"], 503],
      [["--min-free", "8000TiB"], 507],
    ] as const) {
      const server = await startServer(flags, here());
      try {
        const again = machineClient(server.url, first.firstRun!.client, "dock_default");
        expect((await again.list()).data.map(({ id }) => id)).toEqual([stored.id]);
        await expect(again.send({ filename: "2.txt" }, () => Buffer.from("2"))).rejects.toMatchObject({
          status,
        });
      } finally {
        await server.stop();
      }
    }
  });
});

describe("what cannot be done is said in one line", () => {
  const refused = async (args: readonly string[], code: number): Promise<string> => {
    const ran = await run(args, here());
    expect({ code: ran.code, stdout: ran.stdout }).toEqual({ code, stdout: "" });
    expect(ran.stderr).toMatch(/^docyard-server: [^\n]+\n$/);
    return ran.stderr.slice("docyard-server: ".length, -1).replace(" (see docyard-server --help)", "");
  };

  test.each([
    [["--prot", "1"], "unknown option --prot (did you mean --port?)"],
    [["--publicUrl", "http://x"], "unknown option --publicUrl (did you mean --public-url?)"],
    [["--port"], "--port needs a value"],
    [["--port", "1", "--port", "2"], "--port is given 2 times"],
    [["--port", "70000"], '--port: "70000" is not a whole number from 0 to 65535'],
    [["--read-only=yes"], "--read-only is a switch"],
    [["gc", "--apply="], "--apply is a switch"],
    [["clint"], 'unexpected word "clint" (did you mean client?)'],
    [["serve", "now"], 'unexpected word "now"'],
    [["client", "create"], "--name must be given"],
    [["client", "create", "--name", "x", "--port", "1"], "--port means nothing to this command"],
    [["org", "create"], "org create <name>: <name> is missing"],
    [["artifact", "upload", "d"], "artifact upload <dock> <files..>: <files..> is missing"],
    [["artifact", "upload", "d", "-"], "- is no name"],
    [["artifact", "upload", "d", "--", "-x"], "-x: write a file whose name begins with - as ./-x"],
    [["completion"], "the command needs one more word"],
    [
      ["--db", "mysql://u:secret@host/db"],
      '--db: there is no driver for "mysql" (choose from: sqlite[:FILE]',
    ],
    [["--db", "docyard.db"], '--db: there is no driver for "docyard.db" (choose from: sqlite[:FILE]'],
    [
      ["--db", "postgres://u:secret@host/db?connections=none"],
      "--db: connections= is a whole number from 1 to 1000",
    ],
    [["--blob", "gs://bucket"], '--blob: there is no driver for "gs" (choose from: a folder'],
    [["--queue", "sqs://x"], '--queue: there is no driver for "sqs" (choose from: memory'],
    [["dock", "list", "--db", "memory"], "--db memory lives inside one server process"],
    [["retention", "--apply", "--db", "memory"], "memory lives inside one server process"],
  ])("usage: %j", async (args, message) => {
    const said = await refused(args, 2);
    expect(said).toContain(message);
    expect(said).not.toContain("secret");
  });

  test("also where nobody can be told", async () => {
    // A log on a full disk: every write there fails.
    const deaf = { command: ["sh", "-c", 'exec "$@" 2>/dev/full', "sh", process.execPath, BIN] };
    expect((await run(["--prot", "1"], { ...here(), ...deaf })).code).toBe(2);
    await runJson(["org", "create", "One"], here());
    await runJson(["dock", "create", "d"], here());
    const { id } = await runJson<{ id: string }>(["key", "create", "--name", "k", "--dock", "d"], here());
    const sealing = ["sh", "-c", 'echo secret-access-key | exec "$@"', "sh", process.execPath, BIN];
    const credentials = ["key", "s3-credentials", id, "--access-key-id", "AK"];
    expect((await run(credentials, { ...here(), command: sealing })).code).toBe(0);
    // Says on stderr that the key file is not in it.
    const { code, stdout } = await run(["backup", "there", "--json"], { ...here(), ...deaf });
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ target: "there", lost: 0 });
  });

  test("core's own refusals", async () => {
    await runJson(["migrate"], here());
    expect(await refused(["signing", "rotate", "--only", "url"], 2)).toContain(
      "--only url is neither of tokens, urls",
    );
    expect(await refused(["dock", "create", "d"], 1)).toBe("There is no organization yet: create one first");
    await runJson(["org", "create", "One"], here());
    await runJson(["dock", "create", "d"], here());
    expect(await refused(["dock", "create", "d"], 1)).toBe("Dock d already exists");
    expect(await refused(["dock", "retention", "d", "--clear", "--after", "90d"], 2)).toContain(
      "--clear takes all rules away: say it alone",
    );
    expect(await refused(["dock", "create", "../d"], 1)).toContain("A dock id has 1 to 64");
    expect(await refused(["client", "create", "--name", "x", "--dock", "none"], 1)).toBe(
      "Dock none not found",
    );
    expect(await refused(["client", "create", "--name", "x", "--scopes", "admin"], 1)).toContain(
      "Unknown scope admin",
    );
    expect(await refused(["client", "create", "--name", "x", "--scopes", ""], 1)).toContain("scope");
    expect(await refused(["client", "disable", "mc_none"], 1)).toBe("Client mc_none not found");
    await runJson(["org", "create", "Two"], here());
    expect(await refused(["dock", "create", "e"], 1)).toBe("There are several organizations: name one");
  });

  test.each([
    ["client", "list"],
    ["signing", "rotate"],
    ["backup", "there"],
    ["artifact", "list", "d"],
    ["retention"],
  ])("without a database, %s %s makes none", async (...args) => {
    expect(await refused(args, 1)).toBe(
      `there is no database ${join(folder.path, "docyard.db")}: name the server's with --db or DOCYARD_DB, or start a server on this one first`,
    );
    expect(await readdir(folder.path)).toEqual([]);
  });

  test("a database that is damaged where no start looks: the doctor tells", async () => {
    await runJson(["org", "create", "One"], here());
    const file = join(folder.path, "docyard.db");
    expect((await run(["doctor"], here())).stdout).toContain("contents: every page is as it should be");
    const db = new Database(file);
    const page = db.pragma("page_size", { simple: true }) as number;
    const { rootpage } = db
      .prepare<[], { rootpage: number }>("select rootpage from sqlite_schema where name = 'event'")
      .get()!;
    db.close();
    const handle = await open(file, "r+");
    await handle.write(Buffer.alloc(page), 0, page, (rootpage - 1) * page);
    await handle.close();
    const { code, stdout } = await run(["doctor"], here());
    expect(code).toBe(1);
    expect(stdout).toMatch(/FAILING +store +contents: the database is damaged \(.+\)\n +→ restore it/);
  });

  test("--verbose adds the stack", async () => {
    await runJson(["migrate"], here());
    const { code, stderr } = await run(["client", "disable", "mc_none", "--verbose"], here());
    expect(code).toBe(1);
    expect(stderr).toMatch(/^docyard-server: Client mc_none not found\nDocyardError: [^]*\n {4}at /);
  });

  describe.each([
    ["a server", ["--port", "0"]],
    ["a command", ["org", "list"]],
  ])("databases that %s cannot use", (_, args) => {
    const file = (): string => join(folder.path, "docyard.db");

    test("locked by another program", async () => {
      await runJson(["migrate"], here());
      const other = new Database(file());
      other.pragma("locking_mode = exclusive");
      other.exec("begin exclusive");
      expect(await refused(args, 1)).toMatch(/^--db sqlite:\.\/docyard\.db: .*locked/);
      other.close();
      const ran = await run(["org", "list"], here());
      expect(ran.code).toBe(0);
    });

    test("written by a newer docyard", async () => {
      const { to } = await runJson<{ to: number }>(["migrate"], here());
      const newer = new Database(file());
      newer.prepare("insert into migration (number, name, applied_at) values (?, 'later', 0)").run(to + 1);
      newer.close();
      expect(await refused(args, 1)).toContain(
        `database schema ${to + 1} is newer than this docyard (knows ${to})`,
      );
    });

    test("not a database, or another program's", async () => {
      await writeFile(file(), "this is a text file, and long enough to have a header ".repeat(20));
      expect(await refused(args, 1)).toContain("not a SQLite database");
      await writeFile(file(), "");
      const other = new Database(file());
      other.exec("create table cookies (id integer)");
      other.close();
      expect(await refused(args, 1)).toContain("another program");
    });

    test("in a folder that is not there, or that is no folder", async () => {
      const db = (path: string): string[] => [...args, "--db", `sqlite:${join(folder.path, path)}`];
      expect(await refused(db("none/docyard.db"), 1)).toContain("does not exist");
      await mkdir(join(folder.path, "folder"));
      expect(await refused(db("folder"), 1)).toContain("folder");
    });
  });
});

describe("the launcher", () => {
  /** Makes Node look like one that is too old, and not the one of the workspace. */
  const OLD_NODE =
    "data:text/javascript," +
    encodeURIComponent(
      'Object.defineProperty(process, "versions", { value: { ...process.versions, napi: "9", node: "20.0.0" } });' +
        'Object.defineProperty(process, "execPath", { value: "/bin/sh" });',
    );

  test("an old Node hands over to the workspace's own", async () => {
    const options = { ...here(), nodeArgs: ["--import", OLD_NODE] };
    expect(await runJson(["org", "create", "Old"], options)).toMatchObject({ name: "Old" });
    expect((await run(["--prot"], options)).code).toBe(2);
    expect((await run(["client", "disable", "mc_none"], options)).code).toBe(1);

    const server = await startServer([], options);
    expect((await exchange(`${server.url}/v1/healthz`)).status).toBe(200);
    expect(await server.stop()).toEqual({ code: 0, signal: null });
  });

  test("without a newer Node, and without a build, it says so", async () => {
    const lonely = join(folder.path, "bin/docyard-server.mjs");
    await mkdir(join(folder.path, "bin"));
    await copyFile(BIN, lonely);
    const old = await run([], { ...here(), bin: lonely, nodeArgs: ["--import", OLD_NODE] });
    expect(old).toEqual({
      code: 1,
      stdout: "",
      stderr: "docyard-server: needs Node 24 or newer; this is Node 20.0.0.\n",
    });
    const unbuilt = await run([], { ...here(), bin: lonely });
    expect(unbuilt.code).toBe(1);
    expect(unbuilt.stderr).toMatch(/^docyard-server: not built yet; [^\n]+\n$/);
  });
});
