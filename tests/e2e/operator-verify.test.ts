/** `verify` and `gc` through the executable: exactly the damaged, interrupted and resumed, beside a running server. */

import { readdir, readFile, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Artifact, VerifyReport } from "@docyard/core";
import { rateOf, shareOf } from "../../packages/cli/src/verify.ts";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { download, machineClient } from "./client.ts";
import { sha256 } from "./files.ts";
import { contentOf, DOCK, fill, interruptedWhen, IS_FULL, verified } from "./operator-kit.ts";
import { build, type Credentials, run, runJson, startServer, tempFolder } from "./program.ts";

const COUNT = IS_FULL ? 100_000 : 2_000;
const FLIPPED = COUNT / 100;
/** Filling and reading a hundred thousand files. */
const TIMEOUT_MS = IS_FULL ? 1_800_000 : 180_000;

let folder: Awaited<ReturnType<typeof tempFolder>>;
let rows: Artifact[];
/** Those whose bytes have one bit flipped. */
let flipped: Artifact[];

beforeAll(async () => {
  await build();
  folder = await tempFolder();
  rows = await fill(folder.path, COUNT);
  // Spread over all of them, a large one included.
  flipped = Array.from({ length: FLIPPED }, (_, n) => rows[(n * 97 + 7) % COUNT]!);
  for (const [n, { blobKey }] of flipped.entries()) await flipBit(join(folder.path, "data", blobKey!), n);
}, TIMEOUT_MS);

afterAll(() => folder?.remove());

/** One bit of the file's bytes, its times left as they were, as a disk does it. */
async function flipBit(path: string, n: number): Promise<void> {
  const { atime, mtime } = await stat(path);
  const bytes = await readFile(path);
  bytes[(n * 7_919) % bytes.length]! ^= 1 << (n % 8);
  await writeFile(path, bytes);
  await utimes(path, atime, mtime);
}

const here = (): { cwd: string } => ({ cwd: folder.path });

describe("verify", () => {
  test(
    `of ${COUNT} it finds exactly the ${FLIPPED} with a flipped bit, also when it is interrupted and goes on`,
    async () => {
      const whole = await verified(folder.path);
      expect(whole.code).toBe(3);
      const { checked, missing, damaged, orphaned, findings, blobs } = whole.document;
      expect({ checked, missing, damaged, orphaned, blobs }).toEqual({
        checked: COUNT,
        missing: 0,
        damaged: FLIPPED,
        orphaned: 0,
        blobs: COUNT,
      });
      expect(new Set(findings.map(({ id }) => id))).toEqual(new Set(flipped.map(({ id }) => id)));
      for (const { id, dockId, filename, key, fault, expected, actual } of findings) {
        const row = flipped.find((one) => one.id === id)!;
        expect({ dockId, filename, key, fault }).toEqual({
          dockId: DOCK,
          filename: row.filename,
          key: row.blobKey,
          fault: "altered",
        });
        expect(expected).toEqual({ size: row.size, digest: row.digest });
        expect(actual!.digest).toBe(sha256(await readFile(join(folder.path, "data", key))));
      }

      // Slow enough to be interrupted in the middle, wherever that is.
      const bytes = Math.ceil(whole.document.bytes / 10);
      const state = join(folder.path, "state");
      const slow = ["verify", "--state", state, "--rate", String(bytes)];
      const isThere = (): Promise<boolean> =>
        stat(state).then(
          () => true,
          () => false,
        );
      const stopped = await interruptedWhen(isThere, slow, folder.path);
      expect(stopped).toMatchObject({ code: 130, stdout: "" });
      expect(stopped.stderr).toContain(`run it again with --state ${state} to go on`);
      const { state: saved } = JSON.parse(await readFile(state, "utf8")) as {
        state: { report: VerifyReport };
      };
      expect(saved.report.checked).toBeGreaterThan(0);
      expect(saved.report.checked).toBeLessThan(COUNT);
      const other = await run(["verify", "--state", state, "--sample", "10%"], here());
      expect(other.code).toBe(1);
      expect(other.stderr).toContain("other flags");
      const resumed = await verified(folder.path, "--state", state);
      expect(resumed).toMatchObject({ code: 3, document: whole.document });
      expect(await isThere()).toBe(false);
    },
    TIMEOUT_MS,
  );

  test(
    "a sample goes on as the share that it was, whatever has been stored since",
    async () => {
      const own = await tempFolder();
      try {
        const count = 40;
        await fill(own.path, count);
        const state = join(own.path, "state");
        const sampled = ["--sample", "30", "--state", state];
        const isThere = async (): Promise<boolean> => (await stat(state).catch(() => null)) !== null;
        // A minute for all of them but one.
        const slow = ["verify", ...sampled, "--rate", "1KiB"];
        // The large one among the first takes half an hour, in which nothing is kept but by the interruption.
        const until = performance.now() + 20_000;
        const isTime = async (): Promise<boolean> => performance.now() > until || isThere();
        expect(await interruptedWhen(isTime, slow, own.path)).toMatchObject({ code: 130 });
        expect(await isThere()).toBe(true);
        await writeFile(join(own.path, "new"), "stored since");
        await runJson(["artifact", "upload", DOCK, join(own.path, "new")], { cwd: own.path });
        const { code, document } = await verified(own.path, ...sampled);
        const { checked, skipped, damaged } = document;
        expect({ code, seen: checked + skipped, damaged }).toEqual({ code: 0, seen: count + 1, damaged: 0 });
        expect(await readdir(own.path)).not.toContain("state.part");
      } finally {
        await own.remove();
      }
    },
    TIMEOUT_MS,
  );

  test("a state that cannot be kept is told before anything is read", async () => {
    const state = join(folder.path, "nowhere", "state");
    const { code, stderr } = await run(["verify", "--state", state], here());
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: `docyard-server: --state ${state}: no such file or folder (ENOENT)\n`,
    });
  });

  test(
    "a sample reads a share, the same each time, and says so",
    async () => {
      const first = await verified(folder.path, "--sample", "10%", "--orphans", "no");
      const { checked, skipped } = first.document;
      expect(checked + skipped).toBe(COUNT);
      expect(checked).toBeGreaterThan(COUNT / 20);
      expect(checked).toBeLessThan(COUNT / 5);
      const again = await verified(folder.path, "--sample", String(COUNT / 10), "--orphans", "no");
      expect(again.document).toEqual(first.document);
    },
    TIMEOUT_MS,
  );

  test(
    "for people: a line for each finding, and the sums",
    async () => {
      const { code, stdout } = await run(["verify", "--sample", "50%"], here());
      expect(code).toBe(3);
      expect(stdout).toMatch(/^fault +id +dock +filename +key +expected +actual$/m);
      expect(stdout).toMatch(/^\d+ artifacts checked, .* not in the sample: 0 missing, \d+ damaged$/m);
    },
    TIMEOUT_MS,
  );

  test("a share, a rate and a choice that are none are refused", async () => {
    for (const text of ["0", "0%", "200%", "half", "1.5", "-1", ""]) {
      expect(() => shareOf(text, 100)).toThrow("--sample: write a share");
    }
    expect([shareOf("10%", 0), shareOf("50", 100), shareOf("500", 100), shareOf(undefined, 0)]).toEqual([
      0.1, 0.5, 1, 1,
    ]);
    expect(() => rateOf("fast")).toThrow("--rate: write bytes a second");
    expect(rateOf("50MiB")).toBe(50 * 1024 ** 2);
    const { code, stdout, stderr } = await run(["verify", "--orphans", "maybe"], here());
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toContain("--orphans: write yes or no");
  });
});

describe("a damaged artifact", () => {
  test("is never downloaded as a complete wrong file; the others are", async () => {
    const server = await startServer(["--limit-download", "0"], here());
    try {
      const made = await runJson<Credentials>(
        ["client", "create", "--name", "reader", "--dock", DOCK],
        here(),
      );
      const client = machineClient(server.url, made, DOCK);
      const large = flipped.find(({ size }) => size! > 1_000_000)!;
      for (const row of [large, flipped[1]!, flipped[2]!]) {
        const { data } = await client.list({ metadata: JSON.stringify(row.metadata) });
        const { downloadUrl } = data.find(({ id }) => id === row.id)!;
        const got = await download(downloadUrl).catch(() => null);
        expect(got === null || got.status >= 500).toBe(true);
        const { code, stderr } = await run(["artifact", "download", row.id, "out.bin"], here());
        expect(code).toBe(1);
        expect(stderr).toContain("damaged");
        await expect(stat(join(folder.path, "out.bin"))).rejects.toThrow("ENOENT");
      }
      const whole = rows.findIndex(({ id }) => !flipped.some((one) => one.id === id));
      const { data } = await client.list({ metadata: JSON.stringify(rows[whole]!.metadata) });
      const { downloadUrl } = data.find(({ id }) => id === rows[whole]!.id)!;
      expect(await download(downloadUrl)).toMatchObject({ status: 200, digest: sha256(contentOf(whole)) });
    } finally {
      await server.stop();
    }
  });
});

describe("gc", () => {
  test("tells what it would remove, and removes it when it is told to", async () => {
    const small = await tempFolder();
    try {
      const [row] = await fill(small.path, 3);
      const copy = join(small.path, "data", row!.blobKey!.replace(row!.digest!, "b".repeat(64)));
      const stranger = join(
        small.path,
        "data",
        row!.blobKey!.replace(/[^/]+$/, `01hq3k9b200000000000000001-${"c".repeat(64)}`),
      );
      for (const path of [copy, stranger]) {
        await writeFile(path, "left over");
        await utimes(path, 1_000_000, 1_000_000);
      }
      const found = { looked: 5, garbage: 1, bytes: 9, strangers: 1 };
      const { code, document } = await verified(small.path);
      expect({ code, orphaned: document.orphaned }).toEqual({ code: 0, orphaned: 2 });
      expect(await runJson(["gc"], { cwd: small.path })).toEqual({ applied: false, ...found });
      expect((await run(["gc"], { cwd: small.path })).stdout).toContain("would be removed");
      expect(await readFile(copy, "utf8")).toBe("left over");
      expect(await runJson(["gc", "--apply"], { cwd: small.path })).toEqual({ applied: true, ...found });
      await expect(stat(copy)).rejects.toThrow("ENOENT");
      expect(await readFile(stranger, "utf8")).toBe("left over");
      expect(await runJson(["verify"], { cwd: small.path })).toMatchObject({ checked: 3, orphaned: 1 });
    } finally {
      await small.remove();
    }
  });
});
