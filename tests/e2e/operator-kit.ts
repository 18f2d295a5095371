/**
 * Stores full of artifacts for the operator's commands, made without a server since that would take minutes: rows
 * through `Store.load`, bytes as plain files where the disk store has them.
 */

import { mkdir, readdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { sqliteStore } from "@docyard/adapters/store/sqlite";
import type { Artifact, Store, StoreRecord, VerifyReport } from "@docyard/core";
import { createIdSource } from "@docyard/core";
import { artifactRow, NOON } from "../core/rows.ts";
import { seededBytes, sha256 } from "./files.ts";
import { type Ran, run, start } from "./program.ts";

/** Whether runs have the sizes of the issue rather than of a working day. */
export const IS_FULL: boolean = process.env["DOCYARD_TEST_FULL"] === "1";

export const DOCK = "dock_full";
/** Bytes of the smallest and, in between, of the largest artifact. */
const SIZE_MIN = 200;
const SIZE_SPREAD = 1_800;
/** One in so many is larger than a chunk of the disk store, sidecar and all. */
const LARGE_EVERY = 500;
const LARGE_BYTES = 2_500_000;
/** Records in one transaction. */
const BATCH = 1_000;

/** Works on the SQLite file that commands in this folder use. */
export async function withStore<T>(folder: string, work: (store: Store) => Promise<T>): Promise<T> {
  const store = await sqliteStore({ file: join(folder, "docyard.db") });
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}

/** An organisation, a dock and that many completed artifacts. */
export async function fill(folder: string, count: number): Promise<Artifact[]> {
  const rows = makeRows(count);
  await withStore(folder, async (store) => {
    await store.accounts.insert([
      { kind: "organization", id: "org_full", name: "full", createdAt: NOON },
      { kind: "dock", id: DOCK, organizationId: "org_full", name: "full", createdAt: NOON },
    ]);
    const records: StoreRecord[] = rows.flatMap((artifact, index) => [
      { kind: "artifact", artifact },
      { kind: "event", event: completedEvent(artifact, index + 1) },
    ]);
    for (let at = 0; at < records.length; at += BATCH) await store.load(records.slice(at, at + BATCH));
  });
  for (const [index, { blobKey }] of rows.entries()) {
    const path = join(folder, "data", blobKey!);
    if (index % 64 === 0) await mkdir(dirname(path), { recursive: true });
    await writeFile(path, contentOf(index));
  }
  return rows;
}

function makeRows(count: number): Artifact[] {
  let at = NOON;
  const ids = createIdSource(() => at);
  return Array.from({ length: count }, (_, index) => {
    at = NOON + index;
    const id = ids.ulid("art");
    const bytes = contentOf(index);
    const digest = sha256(bytes);
    // 64 to a folder.
    const storageKey = `docks/${DOCK}/artifacts/2026-06-15/${Math.floor(index / 64)}/${id.slice(4).toLowerCase()}`;
    return artifactRow({
      id,
      dockId: DOCK,
      status: "upload_completed",
      filename: `${index}.bin`,
      metadata: { index },
      size: bytes.length,
      digest,
      uploadId: null,
      stagingKey: null,
      storageKey,
      blobKey: `${storageKey}-${digest}`,
      createdAt: at,
      updatedAt: at,
    });
  });
}

export function contentOf(index: number): Buffer {
  const size = index % LARGE_EVERY === 7 ? LARGE_BYTES : SIZE_MIN + ((index * 7_919) % SIZE_SPREAD);
  return seededBytes(`artifact ${index}`, size);
}

function completedEvent({ id, dockId, createdAt }: Artifact, seq: number) {
  return {
    dockId,
    artifactId: id,
    seq,
    type: "artifact.completed",
    at: createdAt,
    by: null,
    data: {},
  } as const;
}

export async function everything(store: Store): Promise<StoreRecord[]> {
  const records: StoreRecord[] = [];
  for await (const batch of store.dump()) records.push(...batch);
  return records;
}

/** Runs a command and kills it, SIGKILL and all, after so long; null when it was done before. */
export async function killed(
  args: readonly string[],
  cwd: string,
  afterMs: number,
): Promise<"killed" | number> {
  const child = start([...args, "--json"], { cwd });
  child.stdout!.resume();
  child.stderr!.resume();
  const timer = setTimeout(() => child.kill("SIGKILL"), afterMs);
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  clearTimeout(timer);
  return code ?? "killed";
}

/** Runs a command, and interrupts it as soon as the file is there. */
export async function interruptedWhen(
  isTime: () => Promise<boolean>,
  args: readonly string[],
  cwd: string,
): Promise<Ran> {
  const child = start(args, { cwd });
  let [stdout, stderr] = ["", ""];
  child.stdout!.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr!.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const closed = new Promise<number | null>((resolve) => child.once("close", resolve));
  while (child.exitCode === null && !(await isTime())) await sleep(5);
  child.kill("SIGINT");
  return { code: await closed, stdout, stderr };
}

/** Every name below a folder that is a file's. */
export async function filesIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name));
}

/** Runs a command that may find damage, and reads its document as what the caller knows it to be. */
export async function ranJson(
  args: readonly string[],
  cwd: string,
): Promise<{ code: number | null; document: unknown; stderr: string }> {
  const { code, stdout, stderr } = await run([...args, "--json"], { cwd });
  if (stdout === "") throw new Error(`docyard-server ${args.join(" ")} ended with ${code}: ${stderr}`);
  return { code, document: JSON.parse(stdout) as unknown, stderr };
}

/** `verify`, which has its own exit code for damage. */
export async function verified(
  cwd: string,
  ...flags: readonly string[]
): Promise<{ code: number | null; document: VerifyReport }> {
  const { code, document } = await ranJson(["verify", ...flags], cwd);
  return { code, document: document as VerifyReport };
}
