/** `artifact` and `stats` through the executable: the main job without a client, resumed where it was cut off. */

import { execFile } from "node:child_process";
import { mkdir, readdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { diskBlobs } from "@docyard/adapters/blob/disk";
import { createDocyard } from "@docyard/core";
import { memoryLimit } from "@docyard/adapters/limit/memory";
import { memoryQueue } from "@docyard/adapters/queue/memory";
import { afterAll, beforeAll, expect, test } from "vitest";
import { lastEvent } from "../../packages/cli/src/stats.ts";
import { seededBytes, sha256 } from "./files.ts";
import { withStore } from "./operator-kit.ts";
import { BIN, build, run, runJson, tempFolder } from "./program.ts";

let folder: Awaited<ReturnType<typeof tempFolder>>;
const SMALL = Buffer.from("a small one\n");
const LARGE = seededBytes("a large one", 3_000_001);

beforeAll(async () => {
  await build();
  folder = await tempFolder();
  await runJson(["org", "create", "Metro"], here());
  await runJson(["dock", "create", "d"], here());
  await mkdir(at("files"));
  await writeFile(at("files/small.txt"), SMALL);
  await writeFile(at("files/large.bin"), LARGE);
});

afterAll(() => folder?.remove());

const here = (): { cwd: string } => ({ cwd: folder.path });
const at = (name: string): string => join(folder.path, name);

interface Shown {
  readonly id: string;
  readonly filename: string;
  readonly hash: string;
  readonly status: string;
  readonly isDuplicate?: boolean;
}

const upload = async (...args: readonly string[]): Promise<Shown[]> =>
  (await runJson<{ data: Shown[] }>(["artifact", "upload", "d", ...args], here())).data;

test("upload, list, get, download, rm, stats", async () => {
  const flags = ["--metadata", '{"patientId":"12345"}', "--content-type", "application/pdf"];
  const [small, large] = await upload("files/small.txt", "files/large.bin", ...flags);
  expect(small).toMatchObject({
    filename: "small.txt",
    dockId: "d",
    face: "machine",
    status: "upload_completed",
    contentType: "application/pdf",
    size: SMALL.length,
    hash: `sha256:${sha256(SMALL)}`,
    metadata: { patientId: "12345" },
    isDuplicate: false,
  });
  // What the dock has is not sent again.
  expect(await upload("files/large.bin", "--name", "another name")).toMatchObject([
    { id: large!.id, isDuplicate: true },
  ]);

  const list = await runJson<{ data: Shown[] }>(
    ["artifact", "list", "d", "--search", "LARGE", "--metadata", '{"patientId":"12345"}'],
    here(),
  );
  expect(list).toMatchObject({ data: [{ id: large!.id }], total: 1, hasMore: false });
  expect(await runJson(["artifact", "list", "d", "--status", "created,upload_failed"], here())).toMatchObject(
    { total: 0 },
  );
  expect((await run(["artifact", "list", "d"], here())).stdout).toMatch(
    /^id +status +size +createdAt +filename$/m,
  );
  expect(await runJson(["artifact", "get", large!.id], here())).toMatchObject({
    id: large!.id,
    filename: "large.bin",
  });

  // A download that was cut off goes on; one that was cut off and scribbled over starts again.
  await runJson(["artifact", "download", large!.id, "got.bin"], here());
  for (const damage of [false, true]) {
    await writeFile(at("next.bin.part"), damage ? Buffer.alloc(1_000_000) : LARGE.subarray(0, 1_234_567));
    const { resumedAt } = await runJson<{ resumedAt: number }>(
      ["artifact", "download", large!.id, "next.bin", "--force"],
      here(),
    );
    expect(resumedAt).toBe(damage ? 0 : 1_234_567);
    expect(sha256(await readFile(at("next.bin")))).toBe(sha256(LARGE));
  }
  expect(sha256(await readFile(at("got.bin")))).toBe(sha256(LARGE));
  const refused = await run(["artifact", "download", large!.id, "got.bin"], here());
  expect(refused).toMatchObject({ code: 1, stdout: "" });
  expect(refused.stderr).toContain("say --force to replace it");

  const stats = await runJson<{ schema: number }>(["stats"], here());
  expect(stats).toMatchObject({
    docks: [
      { id: "d", artifacts: 2, open: 0, bytes: SMALL.length + LARGE.length, quota: null, lastEvent: 4 },
    ],
    total: { artifacts: 2, open: 0, bytes: SMALL.length + LARGE.length },
  });
  expect(stats.schema).toBeGreaterThan(0);

  expect(await runJson(["artifact", "rm", small!.id, large!.id], here())).toEqual({
    removed: [small!.id, large!.id],
  });
  expect(await runJson(["artifact", "list", "d"], here())).toMatchObject({ data: [], total: 0 });
  expect((await run(["artifact", "get", small!.id], here())).stderr).toContain("not found");
});

test("a name as long as names may be is downloaded as it was uploaded", async () => {
  const name = `${"ä".repeat(127)}a`;
  await writeFile(at(`files/${name}`), LARGE.subarray(0, 1_000));
  const [long] = await upload(`files/${name}`);
  await writeFile(at(`${sha256(Buffer.from(name))}.part`), LARGE.subarray(0, 500));
  expect(await runJson(["artifact", "download", long!.id], here())).toMatchObject({ resumedAt: 500 });
  expect(await readFile(at(name))).toEqual(LARGE.subarray(0, 1_000));
});

test("a download arrives where a file can have one name only, as on a memory stick", async () => {
  const [small] = await upload("files/small.txt");
  const preload = `data:text/javascript,${encodeURIComponent(`
    import fs from "node:fs/promises";
    import { syncBuiltinESMExports } from "node:module";
    fs.link = async () => { throw Object.assign(new Error("EPERM"), { code: "EPERM" }); };
    syncBuiltinESMExports();`)}`;
  const command = [process.execPath, "--import", preload, BIN];
  const got = await run(["artifact", "download", small!.id, "stick.txt"], { ...here(), command });
  expect(got).toMatchObject({ code: 0, stderr: "" });
  expect(await readFile(at("stick.txt"))).toEqual(SMALL);
  expect((await readdir(folder.path)).filter((file) => file.startsWith("stick"))).toEqual(["stick.txt"]);
});

test("an upload that was cut off goes on with the row and the bytes that are there", async () => {
  await writeFile(at("files/cut.bin"), seededBytes("cut", 100_000));
  const bytes = await readFile(at("files/cut.bin"));
  const begun = await withStore(folder.path, async (store) => {
    const secret = new Uint8Array(32);
    const blobs = await diskBlobs({ root: at("data"), baseUrl: "http://localhost", secret });
    const [queue, limit] = [memoryQueue(), memoryLimit()];
    try {
      const docyard = createDocyard({ store, blobs, queue, limit });
      const organizationId = (await store.accounts.list("organization"))[0]!.id;
      const operator = { id: "operator", organizationId, dockId: "d", scopes: ["artifacts:write"] as const };
      const writer = await docyard.open(operator, "d", "artifacts:write");
      const { artifact } = await writer.create({
        filename: "cut.bin",
        size: bytes.length,
        hash: sha256(bytes),
      });
      await blobs.put(
        artifact.stagingKey!,
        (async function* () {
          yield bytes;
        })(),
        { sizeMax: bytes.length },
      );
      return artifact;
    } finally {
      await Promise.all([blobs.close(), queue.close(), limit.close()]);
    }
  });
  const staged = at(`data/${begun.stagingKey}`);
  const { mtimeMs } = await stat(staged);
  expect(mtimeMs).toBeGreaterThan(0);
  expect(await upload("files/cut.bin")).toMatchObject([
    { id: begun.id, status: "upload_completed", isDuplicate: false },
  ]);
  await expect(stat(staged)).rejects.toThrow("ENOENT");
  expect(await runJson(["artifact", "list", "d", "--status", "created"], here())).toMatchObject({ total: 0 });
});

test("what cannot be done says why, and how to say it", async () => {
  const [{ id }] = (await upload("files/small.txt")) as [Shown];
  await truncate(at("files/large.bin"), 10);
  await promisify(execFile)("mkfifo", [at("files/pipe")]);
  const cases: readonly (readonly [readonly string[], number, string])[] = [
    [["artifact", "upload", "d", "files/none.txt"], 1, "no such file or folder"],
    [["artifact", "upload", "d", "files"], 1, "this is no file"],
    // Nobody writes to it, and nobody waits for that.
    [["artifact", "upload", "d", "files/pipe"], 1, "files/pipe: this is no file"],
    [["artifact", "download", id, "files", "--force"], 1, "files is a folder: name a file in it"],
    [["artifact", "upload", "nowhere", "files/small.txt"], 1, "Dock nowhere not found"],
    [
      ["artifact", "upload", "d", "files/small.txt", "--max-size", "1B"],
      1,
      "files/small.txt has more than the 1 bytes of --max-size",
    ],
    [["artifact", "upload", "d", "files/small.txt", "--metadata", "[]"], 2, "--metadata: "],
    [["artifact", "rm", id, "art_none"], 1, "art_none not found"],
    [["artifact", "upload", "d"], 2, "<files..> is missing"],
    [["artifact", "list", "d", "--limit", "0"], 2, "--limit: write 1 to 1000"],
    [["artifact", "list", "d", "--limit", "1001"], 2, "--limit: write 1 to 1000"],
    [["stats", "--db", "memory"], 2, "no other command can reach it"],
  ];
  for (const [args, code, message] of cases) {
    const ran = await run(args, here());
    expect({ args, code: ran.code, stdout: ran.stdout }).toEqual({ args, code, stdout: "" });
    expect(ran.stderr).toContain(message);
  }
  // All or none: the first of two is still there when the second is not.
  expect(await runJson(["artifact", "get", id], here())).toMatchObject({ id });
});

test("a download of what is missing or cut short says so, and leaves nothing", async () => {
  await writeFile(at("files/lost.txt"), "soon to be lost");
  const [{ id }] = (await upload("files/lost.txt")) as [Shown];
  const key = await withStore(here().cwd, async (store) => (await store.artifacts.get({ id }))!.blobKey!);
  const refused = async (): Promise<void> => {
    const { code, stderr } = await run(["artifact", "download", id, "lost.out"], here());
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: `docyard-server: The stored bytes of artifact ${id} are missing or damaged: nothing was kept (docyard-server verify tells more)\n`,
    });
    expect((await readdir(here().cwd)).filter((name) => name.startsWith("lost.out"))).toEqual([]);
  };
  await truncate(at(`data/${key}`), 4);
  await refused();
  await rm(at(`data/${key}`));
  await refused();
});

test("the last event is found by halving, whatever it is", async () => {
  for (const last of [0, 1, 2, 3, 7, 8, 9, 1_000, 65_537]) {
    let calls = 0;
    const events = async (_: string, after: number, limit: number): Promise<never[]> => {
      calls++;
      return Array.from<never>({ length: Math.min(limit, Math.max(0, last - after)) });
    };
    expect(await lastEvent({ events }, "d")).toBe(last);
    expect(calls).toBeLessThan(40);
  }
});
