/**
 * The operator's commands around API keys and the S3 credentials that they may carry: what they print and never print,
 * where the key file is and who may read it, and what a lost or damaged one does.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFile, readdir, readFile, rm, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { sqliteStore } from "@docyard/adapters/store/sqlite";
import { createSealer } from "@docyard/core";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { addKey, keyFileSealer } from "../../packages/cli/src/keyring.ts";
import { exchange } from "./client.ts";
import { BIN, build, type Ran, run, runJson, startServer, tempFolder } from "./program.ts";

const SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const ACCESS = "AKIAIOSFODNN7EXAMPLE";

let folder: Awaited<ReturnType<typeof tempFolder>>;
let keyId: string;
let apiKey: string;

beforeAll(build);
beforeEach(async () => {
  folder = await tempFolder();
  await runJson(["org", "create", "Metro"], here());
  await runJson(["dock", "create", "dock_a"], here());
  const made = await runJson<{ id: string; apiKey: string }>(
    ["key", "create", "--name", "Studio", "--dock", "dock_a"],
    here(),
  );
  ({ id: keyId, apiKey } = made);
});
afterEach(() => folder.remove());

const here = (): { cwd: string } => ({ cwd: folder.path });
const keyFile = (): string => join(folder.path, "docyard.key");

/** One command that is told something on standard input. */
async function tell(input: string, ...args: readonly string[]): Promise<Ran> {
  const env = { PATH: process.env["PATH"], HOME: folder.path };
  const child = spawn(process.execPath, [BIN, ...args], { cwd: folder.path, env });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  child.stdin.end(input);
  const [code] = (await once(child, "close")) as [number | null];
  return { code, stdout, stderr };
}

const attach = (id = keyId, ...more: readonly string[]): Promise<Ran> =>
  tell(`${SECRET}\n`, "key", "s3-credentials", id, "--access-key-id", ACCESS, ...more);

/** What is sealed for a key, and what it opens to with the key file; null where there is nothing. */
async function sealedOf(id: string): Promise<{ readonly sealed: string; readonly opened: unknown } | null> {
  const store = await sqliteStore({ file: join(folder.path, "docyard.db") });
  try {
    const sealed = (await store.accounts.find("key", { id }))!.s3Credentials;
    if (sealed === null) return null;
    return { sealed, opened: JSON.parse(await keyFileSealer(keyFile()).open(sealed, id)) as unknown };
  } finally {
    await store.close();
  }
}

describe("key s3-credentials", () => {
  test("seals what standard input says, under a key file of the owner's alone, and prints none of it", async () => {
    const more = ["--region", "eu-central-1", "--endpoint", "https://s3.example.com"];
    const { code, stdout, stderr } = await attach(keyId, ...more, "--json");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(JSON.parse(stdout)).toMatchObject({ id: keyId, dockId: "dock_a", isActive: true });
    expect((await stat(keyFile())).mode & 0o777).toBe(0o600);
    const { sealed, opened } = (await sealedOf(keyId))!;
    expect(opened).toEqual({
      accessKeyId: ACCESS,
      secretAccessKey: SECRET,
      region: "eu-central-1",
      endpoint: "https://s3.example.com",
    });
    const text = await attach();
    expect(text).toMatchObject({ code: 0, stdout: expect.stringMatching(/has S3 credentials/) });
    const listed = await run(["key", "list", "--json"], here());
    for (const said of [stdout, text.stdout, text.stderr, listed.stdout, sealed])
      expect(said).not.toContain(SECRET);
    // Nor is it in any file, the database and its log among them.
    for (const name of await readdir(folder.path)) {
      expect((await readFile(join(folder.path, name))).includes(SECRET), `secret in ${name}`).toBe(false);
    }

    expect(await run(["key", "s3-credentials", keyId, "--clear"], here())).toMatchObject({ code: 0 });
    expect(await sealedOf(keyId)).toBeNull();
  });

  test("a terminal is asked, and does not show what is typed", async () => {
    // What is typed comes through a pipe here: the program's side of a terminal.
    const preload = `data:text/javascript,${encodeURIComponent(`
      Object.assign(process.stdin, { isTTY: true, setRawMode: (on) => process.stderr.write(on ? "<" : ">") });
    `)}`;
    const env = { PATH: process.env["PATH"], HOME: folder.path };
    const args = ["--import", preload, BIN, "key", "s3-credentials", keyId, "--access-key-id", ACCESS];
    const child = spawn(process.execPath, args, { cwd: folder.path, env });
    let said = "";
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text: string) => (said += text));
    child.stdin.end(`${SECRET}x\u007F\r`);
    expect(await once(child, "close")).toEqual([0, null]);
    expect(said).toMatch(/^(?=[^]*Secret access key, then Enter: )(?=[^]*<>)[^]*has S3 credentials/);
    expect(said).not.toContain(SECRET);
    expect((await sealedOf(keyId))!.opened).toEqual({ accessKeyId: ACCESS, secretAccessKey: SECRET });
  });

  test("the secret cannot be given where other users see it", async () => {
    const { code, stderr } = await tell("", "key", "s3-credentials", keyId, "--secret-access-key", SECRET);
    expect(code).toBe(2);
    expect(stderr).not.toContain(SECRET);
  });

  test.each([
    ["no access key id", ["key", "s3-credentials", "ID"], SECRET, 2, /--access-key-id is missing/],
    [
      "no secret",
      ["key", "s3-credentials", "ID", "--access-key-id", ACCESS],
      "\n",
      1,
      /need an access key id and/,
    ],
    [
      "nothing said at all",
      ["key", "s3-credentials", "ID", "--access-key-id", ACCESS],
      "",
      1,
      /need an access key id/,
    ],
    [
      "no such key",
      ["key", "s3-credentials", "key_nobody", "--access-key-id", ACCESS],
      SECRET,
      1,
      /key_nobody/,
    ],
    [
      "an endpoint with a password",
      ["key", "s3-credentials", "ID", "--access-key-id", ACCESS, "--endpoint", "https://u:p@s3.example.com"],
      SECRET,
      1,
      /endpoint must be/,
    ],
  ] as const)("%s is refused in a sentence", async (_name, args, input, exit, words) => {
    const { code, stdout, stderr } = await tell(input, ...args.map((arg) => (arg === "ID" ? keyId : arg)));
    expect({ code, stdout }).toEqual({ code: exit, stdout: "" });
    expect(stderr).toMatch(words);
    expect(stderr.trim().split("\n")).toHaveLength(1);
    expect(stderr).not.toContain(SECRET);
    expect(await sealedOf(keyId)).toBeNull();
  });
});

describe("the key file", () => {
  test.each([
    ["empty", "", /docyard\.key: it is not a key file/],
    ["no JSON", `{"current":"${SECRET}`, /docyard\.key: it is not a key file/],
    ["null", "null", /docyard\.key: it is not a key file/],
    ["without a current key", '{"current":"k1","keys":{}}', /names a current key that it does not hold/],
    ["with a short key", '{"current":"k1","keys":{"k1":"AAAA"}}', /key k1 in it is damaged/],
  ])("%s: named, not quoted, and left as it is", async (_name, content, words) => {
    await writeFile(keyFile(), content);
    const { code, stderr } = await attach();
    expect(code).toBe(1);
    expect(stderr).toMatch(words);
    expect(stderr).not.toContain(SECRET);
    expect(await readFile(keyFile(), "utf8")).toBe(content);
    expect(await sealedOf(keyId)).toBeNull();
  });

  test("a missing one is made for the first secret, and never for a second", async () => {
    expect((await attach()).code).toBe(0);
    await rm(keyFile());
    const other = await runJson<{ id: string }>(["key", "create", "--name", "B", "--dock", "dock_a"], here());
    const second = await attach(other.id);
    const rotation = await run(["secrets", "rotate"], here());
    for (const { code, stderr } of [second, rotation]) {
      expect(code).toBe(1);
      expect(stderr).toMatch(/--key-file .*docyard\.key: .*(ENOENT|no such file)/);
    }
    expect(await readdir(folder.path)).not.toContain("docyard.key");
    // The way out: the key whose secret is lost is given it again.
    expect((await attach()).code).toBe(0);
    expect((await sealedOf(keyId))!.opened).toMatchObject({ secretAccessKey: SECRET });
  });

  test("--key-file says where it is", async () => {
    const path = join(folder.path, "elsewhere.key");
    expect((await attach(keyId, "--key-file", path)).code).toBe(0);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(await readdir(folder.path)).not.toContain("docyard.key");
  });
});

describe("secrets rotate", () => {
  test("seals everything with a new key; a running server's sealer opens it, and the old key still opens backups", async () => {
    await attach();
    const before = (await sealedOf(keyId))!;
    await copyFile(keyFile(), join(folder.path, "old.key"));
    // As a worker holds it, opened before the rotation.
    const running = keyFileSealer(keyFile());
    expect(await running.open(before.sealed, keyId)).toContain(SECRET);

    const rotated = await runJson<{ keyFile: string; resealed: number }>(["secrets", "rotate"], here());
    expect(rotated).toEqual({ keyFile: "docyard.key", resealed: 1 });
    expect((await stat(keyFile())).mode & 0o777).toBe(0o600);
    const after = (await sealedOf(keyId))!;
    expect(after.sealed.split(".")[1]).not.toBe(before.sealed.split(".")[1]);
    expect(after.opened).toEqual(before.opened);
    expect(await running.open(after.sealed, keyId)).toContain(SECRET);
    expect(await running.open(before.sealed, keyId)).toContain(SECRET);
    await expect(keyFileSealer(join(folder.path, "old.key")).open(after.sealed, keyId)).rejects.toThrow(
      /is not in this server's key file/,
    );
    const { stdout } = await run(["secrets", "rotate"], here());
    for (const key of Object.values(
      (JSON.parse(await readFile(keyFile(), "utf8")) as { keys: object }).keys,
    )) {
      expect(stdout).not.toContain(key);
    }
  });

  test("keys that several add at once are all kept: what was sealed with each still opens", async () => {
    const added = await Promise.all(
      Array.from({ length: 8 }, async (_, n) => {
        const sealer = createSealer(await addKey(keyFile()));
        return { owner: `key_${n}`, sealed: await sealer.seal("secret", `key_${n}`) };
      }),
    );
    for (const { owner, sealed } of added) {
      expect(await keyFileSealer(keyFile()).open(sealed, owner)).toBe("secret");
    }
    // One for each, and the first.
    const { keys } = JSON.parse(await readFile(keyFile(), "utf8")) as { keys: object };
    expect(Object.keys(keys)).toHaveLength(9);
    // One that was killed meanwhile is in nobody's way.
    const lock = `${keyFile()}.lock`;
    await writeFile(lock, "");
    await utimes(lock, 0, 0);
    await addKey(keyFile());
    expect((await readdir(folder.path)).filter((name) => name.startsWith("docyard.key"))).toEqual([
      "docyard.key",
    ]);
  });

  test("without secrets there is nothing to seal", async () => {
    expect(await runJson(["secrets", "rotate"], here())).toMatchObject({ resealed: 0 });
  });
});

test("key rotate and key disable act at once on a running server", async () => {
  const server = await startServer([], here());
  const status = async (key: string): Promise<number> =>
    (await exchange(`${server.url}/api/v1/artifacts`, { headers: { authorization: `Bearer ${key}` } }))
      .status;
  try {
    expect(await status(apiKey)).toBe(200);
    const rotated = await runJson<{ id: string; apiKey: string }>(["key", "rotate", keyId], here());
    expect(rotated).toMatchObject({ id: keyId, apiKey: expect.stringMatching(/^dk_live_\w{40,}$/) });
    expect([await status(apiKey), await status(rotated.apiKey)]).toEqual([401, 200]);
    expect(await runJson(["key", "disable", keyId], here())).toMatchObject({ id: keyId, isActive: false });
    expect(await status(rotated.apiKey)).toBe(401);
    expect(server.log()).not.toContain(rotated.apiKey);
    for (const verb of ["rotate", "disable"]) {
      const { code, stderr } = await run(["key", verb, "key_nobody"], here());
      expect(code).toBe(1);
      expect(stderr).toContain("key_nobody");
    }
  } finally {
    await server.kill();
  }
});
