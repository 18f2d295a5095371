/**
 * Backup under load, restore elsewhere, export and import, through the executable: nothing dangles, nothing is wrong, and
 * a kill at any moment costs no more than running it again.
 */

import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Artifact } from "@docyard/core";
import { createSealer } from "@docyard/core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { download, machineClient, type MachineClient } from "./client.ts";
import { seededBytes, sha256 } from "./files.ts";
import {
  contentOf,
  DOCK,
  everything,
  fill,
  filesIn,
  interruptedWhen,
  IS_FULL,
  killed,
  ranJson,
  verified,
  withStore,
} from "./operator-kit.ts";
import { build, type FirstRun, run, runJson, startServer, tempFolder } from "./program.ts";

/** Uploads a second while the backup runs, and how many have to be done before it begins and after it ends. */
const LOAD = IS_FULL
  ? { perSecond: 200, before: 6_000, after: 6_000 }
  : { perSecond: 100, before: 60, after: 40 };
const KILLS = IS_FULL ? 20 : 2;
const TIMEOUT_MS = IS_FULL ? 1_800_000 : 180_000;
/** On a busy machine uploads get slower, not more. */
const UNDER_WAY_MAX = 32;
/** How many artifacts the kills fall among: what one command does within the time that it is given, on a busy machine. */
const COUNT = IS_FULL ? 4_000 : 400;

let folder: Awaited<ReturnType<typeof tempFolder>>;

beforeAll(async () => {
  await build();
  folder = await tempFolder();
}, TIMEOUT_MS);

afterAll(() => folder?.remove());

async function subfolder(name: string): Promise<string> {
  const path = join(folder.path, name);
  await mkdir(path);
  return path;
}

async function requireWhole(cwd: string, count: number): Promise<void> {
  const { code, document } = await verified(cwd);
  const { checked, missing, damaged, orphaned } = document;
  expect({ code, checked, missing, damaged, orphaned }).toEqual({
    code: 0,
    checked: count,
    missing: 0,
    damaged: 0,
    orphaned: 0,
  });
}

interface Load {
  /** Resolves when so many more uploads are complete. */
  more(count: number): Promise<void>;
  /** @throws whatever an upload was refused with */
  stop(): Promise<void>;
}

/** Uploads at a steady rate until told to stop; deletes one in ten again. */
async function uploading(client: MachineClient, url: string): Promise<Load> {
  const token = await client.token();
  const begun = performance.now();
  const state = { isStopped: false, done: 0 };
  const one = async (number: number): Promise<void> => {
    const bytes = seededBytes(`upload ${number}`, 500 + ((number * 7_919) % 60_000));
    const input = { filename: `${number}.bin`, hash: sha256(bytes), size: bytes.length };
    const { id } = await client.send(input, () => bytes);
    state.done++;
    if (number % 10 !== 9) return;
    const path = `${url}/v1/machine/docks/${client.dockId}/artifacts/${id}`;
    const headers = { authorization: `Bearer ${token}` };
    const { status } = await fetch(path, { method: "DELETE", headers });
    if (status !== 200 && status !== 204) throw new Error(`DELETE answered ${status}`);
  };
  const run = async (): Promise<void> => {
    const under = new Set<Promise<void>>();
    let failure: unknown = null;
    for (let n = 0; !state.isStopped; n++) {
      const upload: Promise<void> = one(n)
        .catch((error: unknown) => {
          failure = error;
          state.isStopped = true;
        })
        .finally(() => under.delete(upload));
      under.add(upload);
      await sleep(Math.max(0, begun + ((n + 1) * 1_000) / LOAD.perSecond - performance.now()));
      while (under.size >= UNDER_WAY_MAX) await Promise.race(under);
    }
    await Promise.all(under);
    if (failure !== null) throw failure;
  };
  const running = run();
  running.catch(() => {});
  return {
    async more(count) {
      const wanted = state.done + count;
      while (state.done < wanted) {
        await sleep(10);
        // One was refused: it says why.
        if (state.isStopped) await running;
      }
    },
    async stop() {
      state.isStopped = true;
      await running;
    },
  };
}

describe("backup", () => {
  test.each(["backup", "backup.tar"])(
    "taken into %s while uploads run, restored elsewhere: 0 dangling, 0 bad, and the clients' keys still work",
    async (name) => {
      const home = await subfolder(`home-${name}`);
      const server = await startServer(["--limit-token", "0", "--log-level", "warn"], { cwd: home });
      const made: FirstRun = server.firstRun!;
      try {
        const client = machineClient(server.url, made.client, made.dock.id);
        const load = await uploading(client, server.url);
        await load.more(LOAD.before);
        const target = join(folder.path, name);
        const backup = await runJson<{ artifacts: number; lost: number; blobs: number }>(["backup", target], {
          cwd: home,
        });
        expect(backup.lost).toBe(0);
        expect(backup.blobs).toBeGreaterThan(LOAD.before / 2);
        await load.more(LOAD.after);
        await load.stop();

        const there = await subfolder(`there-${name}`);
        const restored = await runJson<{ blobs: number }>(["restore", target], { cwd: there });
        expect(restored).toMatchObject({ artifacts: backup.artifacts, lost: 0 });
        await requireWhole(there, backup.blobs);

        // Not later than the moment: everything in it is what the first server has, or had.
        const rows = await withStore(home, everything);
        const known = new Set(rows.map((record) => (record.kind === "artifact" ? record.artifact.id : "")));
        const copies = await withStore(there, everything);
        for (const record of copies)
          if (record.kind === "artifact") expect(known.has(record.artifact.id)).toBe(true);

        const second = await startServer(["--limit-token", "0", "--limit-download", "0"], { cwd: there });
        try {
          expect(second.firstRun).toBeNull();
          const again = machineClient(second.url, made.client, made.dock.id);
          const { data } = await again.list({ limit: "5" });
          for (const { hash, size, downloadUrl } of data) {
            expect(await download(downloadUrl)).toEqual({
              status: 200,
              size,
              digest: hash!.replace("sha256:", ""),
            });
          }
        } finally {
          await second.stop();
        }
      } finally {
        await server.stop();
      }
    },
    TIMEOUT_MS,
  );

  test("of sealed secrets says that their keys are not in it", async () => {
    const home = await subfolder("sealed");
    await fill(home, 1);
    const id = "key_1";
    const sealer = createSealer({ current: "k1", keys: { k1: new Uint8Array(32) } });
    const sealed = await sealer.seal("top secret", id);
    await withStore(home, (store) =>
      store.accounts.insert([
        {
          kind: "key",
          id,
          secretDigest: "0".repeat(64),
          name: "k",
          dockId: DOCK,
          organizationId: "org_full",
          isActive: true,
          s3Credentials: sealed,
          createdAt: 1,
        },
      ]),
    );
    const { code, stderr } = await run(["backup", "b.tar"], { cwd: home });
    expect(code).toBe(0);
    expect(stderr).toMatch(
      /sealed S3 credentials, and not the keys that open them: keep a copy of .*docyard\.key/,
    );
    expect((await run(["backup", "--help"], { cwd: home })).stdout.replaceAll(/\s+/g, " ")).toContain(
      "holds secrets, readable by you alone (mode 0600)",
    );
  });
});

describe("killed and run again", () => {
  let home: string;
  let rows: Artifact[];

  beforeAll(async () => {
    home = await subfolder("full");
    rows = await fill(home, COUNT);
  }, TIMEOUT_MS);

  /** Kills a command again and again, each time a little later, and lets it finish in the end. */
  const killAndFinish = async (args: readonly string[], cwd: string, startMs: number): Promise<void> => {
    for (let n = 0; n < KILLS; n++) {
      const ended = await killed(args, cwd, startMs + (n + Math.random()) * 150);
      if (ended === 0) return;
      expect(ended).toBe("killed");
    }
    const { code, stderr } = await run([...args, "--json"], { cwd });
    // Killed between its last deed and its last word.
    if (code !== 0) expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringMatching(/ already/) });
  };

  test(
    "a backup, then a restore, then an export and an import: nothing is lost and nothing is twice",
    async () => {
      const { stdout } = await run(["--version"], { cwd: home });
      expect(stdout).toMatch(/^\d/);
      const begun = performance.now();
      await runJson(["stats"], { cwd: home });
      // Kills fall when the command is up, however slow the machine is today.
      const startMs = performance.now() - begun - 50;

      const target = join(folder.path, "killed");
      await killAndFinish(["backup", target], home, startMs);
      const there = await subfolder("restored");
      await killAndFinish(["restore", target], there, startMs);
      expect(await withStore(there, everything)).toEqual(await withStore(home, everything));
      await requireWhole(there, COUNT);

      const exported = join(folder.path, "export.tar");
      await killAndFinish(["export", DOCK, exported], there, startMs);
      const elsewhere = await subfolder("elsewhere");
      await withStore(elsewhere, (store) =>
        store.accounts.insert([
          { kind: "organization", id: "org_other", name: "other", createdAt: 1 },
          { kind: "dock", id: "other", organizationId: "org_other", name: "other", createdAt: 1 },
        ]),
      );
      await killAndFinish(["import", exported, "--dock", "other"], elsewhere, startMs);
      expect(await runJson(["import", exported, "--dock", "other"], { cwd: elsewhere })).toMatchObject({
        artifacts: COUNT,
        imported: 0,
        present: COUNT,
        duplicates: 0,
        lost: 0,
      });
      await requireWhole(elsewhere, COUNT);
      const { data } = await runJson<{ data: { id: string; filename: string }[] }>(
        ["artifact", "list", "other", "--limit", "1000", "--search", "12.bin"],
        { cwd: elsewhere },
      );
      expect(data.map(({ id }) => id)).toContain(rows[12]!.id);
      const bytes = await Promise.all(
        (await filesIn(join(elsewhere, "data")))
          .filter((path) => path.endsWith(rows[12]!.digest!))
          .map((path) => readFile(path)),
      );
      expect(bytes.map(sha256)).toEqual([sha256(contentOf(12))]);
    },
    TIMEOUT_MS,
  );

  test(
    "interrupted, it says how to go on, and what it left is no backup",
    async () => {
      const target = join(folder.path, "stopped");
      const hasBlobs = (): Promise<boolean> =>
        stat(join(target, "blobs")).then(
          () => true,
          () => false,
        );
      const { code, stdout, stderr } = await interruptedWhen(hasBlobs, ["backup", target], home);
      // A machine in a good mood may have been done by then.
      if (code !== 0) {
        expect({ code, stdout }).toEqual({ code: 130, stdout: "" });
        expect(stderr).toContain("is not complete; run it again to go on with what it has");
        const empty = await subfolder("empty");
        const refused = await run(["restore", target], { cwd: empty });
        expect(refused.code).toBe(1);
        expect(refused.stderr).toContain("is not complete");
      }
      expect(await runJson(["backup", target], { cwd: home })).toMatchObject({ artifacts: COUNT, lost: 0 });
    },
    TIMEOUT_MS,
  );

  test("damage is told by exit code 3, and the rest is there", async () => {
    const damaged = await subfolder("damaged");
    const [first, second] = await fill(damaged, 3);
    await writeFile(join(damaged, "data", first!.blobKey!), "something else");
    const backup = await ranJson(["backup", "b"], damaged);
    expect(backup).toMatchObject({
      code: 3,
      document: { lost: 1, findings: [{ id: first!.id, fault: "altered" }] },
    });
    const there = await subfolder("damaged-there");
    const restored = await ranJson(["restore", join(damaged, "b")], there);
    expect(restored).toMatchObject({ code: 3, document: { lost: 1 } });
    const again = await run(["restore", join(damaged, "b")], { cwd: there });
    expect(again).toMatchObject({ code: 1, stdout: "" });
    expect(again.stderr).toContain("The store has rows already");
    const imported = await run(["import", join(damaged, "b")], { cwd: there });
    expect(imported).toMatchObject({ code: 1, stdout: "" });
    expect(imported.stderr).toContain("is a backup of a whole server: restore it");
    expect(await withStore(there, (store) => store.artifacts.get({ id: second!.id }))).toEqual(second);
  });
});

describe("a server does not start", () => {
  const started = async (cwd: string): Promise<string> => {
    try {
      await (await startServer([], { cwd })).stop();
      return "yes";
    } catch (error) {
      return String(error);
    }
  };

  test("where the rows have lost their folder, as without its disk; with it, it does", async () => {
    const cwd = await subfolder("unmounted");
    await fill(cwd, 1);
    await rename(join(cwd, "data"), join(cwd, "away"));
    const refusal = "the database has artifacts, and no bytes are there: is its disk mounted";
    expect(await started(cwd)).toContain(refusal);
    expect(await readdir(cwd)).not.toContain("data");
    expect((await run(["doctor"], { cwd })).stdout).toContain("bytes: none are there, and a database is");
    await mkdir(join(cwd, "data"));
    expect(await started(cwd)).toContain(refusal);
    // Nothing was made below the place where the disk belongs.
    expect(await readdir(join(cwd, "data"))).toEqual([]);
    await rm(join(cwd, "data"), { recursive: true });
    await rename(join(cwd, "away"), join(cwd, "data"));
    expect(await started(cwd)).toBe("yes");
    expect((await run(["doctor"], { cwd })).stdout).not.toContain("bytes:");
  });

  test("on half a restore; once that is done, it does", async () => {
    const [home, cwd] = [await subfolder("half-home"), await subfolder("half")];
    await fill(home, 2);
    const target = join(home, "b");
    await runJson(["backup", target], { cwd: home });
    // As it is when a restore was killed before it was done with the bytes.
    const digest = sha256(await readFile(join(target, "docyard-archive.json")));
    await runJson(["migrate"], { cwd });
    await mkdir(join(cwd, "data", "incoming"), { recursive: true });
    await writeFile(join(cwd, "data", "incoming", `restore-${digest}`), "");
    expect(await started(cwd)).toContain("a restore into it is not complete: run that again first");
    await runJson(["restore", target], { cwd });
    expect(await started(cwd)).toBe("yes");
    await requireWhole(cwd, 2);
  });
});
