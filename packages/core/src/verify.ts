/**
 * Verification of everything kept, in both directions: every completed artifact has exactly the bytes that its digest
 * names, and every final blob is wanted by an artifact. Reads every byte itself and changes nothing; an operator's call,
 * resumable, and safe beside running servers: what looks wrong is looked at again before it is reported.
 */

import type { Artifact } from "./artifact.ts";
import { FINAL_PREFIX } from "./blob-keys.ts";
import { blobPages } from "./blob-pages.ts";
import { claimOn } from "./gc.ts";
import { inOrder } from "./in-order.ts";
import type { ArtifactStore, BlobStore } from "./ports.ts";

export interface VerifyPorts {
  readonly artifacts: Pick<ArtifactStore, "walk" | "get" | "isBlobInUse">;
  readonly blobs: Pick<BlobStore, "digest" | "list" | "ready">;
}

/** An artifact whose bytes are not what they have to be. */
export interface Damage {
  readonly id: string;
  readonly dockId: string;
  readonly filename: string;
  readonly key: string;
  /** `unreadable`: the store failed to read these bytes, and is well otherwise. */
  readonly fault: "missing" | "altered" | "unreadable";
  readonly expected: { readonly size: number; readonly digest: string };
  /** Null where nothing could be read. */
  readonly actual: { readonly size: number; readonly digest: string } | null;
}

/** A final blob that no artifact wants. */
export interface Orphan {
  readonly key: string;
  readonly size: number;
  /** `unwanted`: its artifact has ended without it; `stranger`: the store knows no such artifact. */
  readonly claim: "unwanted" | "stranger";
}

export interface VerifyReport {
  /** Completed artifacts whose bytes were read, and how many bytes. */
  readonly checked: number;
  readonly bytes: number;
  /** Completed artifacts outside of the sample. */
  readonly skipped: number;
  readonly missing: number;
  /** Altered or unreadable. */
  readonly damaged: number;
  /** Both of them one by one, the first `FINDINGS_MAX`. */
  readonly findings: readonly Damage[];
  /** Final blobs looked at. */
  readonly blobs: number;
  readonly orphaned: number;
  readonly orphanedBytes: number;
  /** One by one, the first `FINDINGS_MAX`. */
  readonly orphans: readonly Orphan[];
}

/** How far a verification is: plain data, to be kept and handed in again. */
export interface VerifyState {
  readonly phase: "artifacts" | "blobs" | "done";
  /** Id or key up to which everything of the phase is done. */
  readonly after: string;
  readonly report: VerifyReport;
}

export interface VerifyOptions {
  /** How long the bytes of dead rows stay (`Settings.graceMs`): nothing younger is an orphan. */
  readonly graceMs: number;
  /** Share of the artifacts to read, over 0 and up to 1, chosen by a hash of their ids. Default 1: all. */
  readonly sample?: number;
  /** Whether to look for blobs that nobody wants. Default true. */
  readonly orphans?: boolean;
  /** Where an earlier call stopped. */
  readonly resume?: VerifyState;
  /** Blobs read at a time. Default 4: enough to keep a fast disk and two cores busy. */
  readonly width?: number;
  /** Awaited before so many bytes are read: the place to slow down. */
  readonly pace?: (bytes: number) => Promise<void>;
  /** Milliseconds since 1970 UTC; default `Date.now`. */
  readonly now?: () => number;
  readonly signal?: AbortSignal;
  /** Called after each artifact and each page of blobs. The state is the living one: copy what is to be kept. */
  readonly onProgress?: (state: VerifyState) => void;
}

/** Findings kept one by one; counts go on beyond. */
export const FINDINGS_MAX = 10_000;
const WIDTH = 4;
/** Rows asked for at a time. */
const PAGE = 1_000;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
type Report = Mutable<Omit<VerifyReport, "findings" | "orphans">> & {
  readonly findings: Damage[];
  readonly orphans: Orphan[];
};

/** Rejects with the signal's reason when it aborts; the last state told then is where to go on. */
export async function verify(ports: VerifyPorts, options: VerifyOptions): Promise<VerifyReport> {
  const { resume, onProgress = () => {}, orphans = true } = options;
  const report: Report = resume === undefined ? emptyReport() : (structuredClone(resume.report) as Report);
  let phase = resume?.phase ?? "artifacts";
  let after = resume?.after ?? "";
  const told = (at: string): void => onProgress({ phase, after: (after = at), report });

  if (phase === "artifacts") {
    await verifyArtifacts(ports, options, report, after, told);
    phase = "blobs";
    told("");
  }
  if (phase === "blobs") {
    if (orphans) await findOrphans(ports, options, report, after, told);
    phase = "done";
    told("");
  }
  return report;
}

function emptyReport(): Report {
  return {
    checked: 0,
    bytes: 0,
    skipped: 0,
    missing: 0,
    damaged: 0,
    findings: [],
    blobs: 0,
    orphaned: 0,
    orphanedBytes: 0,
    orphans: [],
  };
}

// ---- every artifact has its bytes ------------------------------------------------------------------------------

async function verifyArtifacts(
  ports: VerifyPorts,
  options: VerifyOptions,
  report: Report,
  start: string,
  told: (after: string) => void,
): Promise<void> {
  const { sample = 1, width = WIDTH, signal } = options;
  const look = async (row: Artifact) => {
    if (row.status !== "upload_completed") return { row, outcome: "other" as const };
    if (!isInSample(row.id, sample)) return { row, outcome: "skipped" as const };
    signal?.throwIfAborted();
    await options.pace?.(row.size ?? 0);
    return { row, outcome: await damageOf(ports, row, signal) };
  };
  for await (const { row, outcome } of inOrder(walk(ports, start), width, look)) {
    if (outcome === "skipped") report.skipped++;
    else if (outcome !== "other") {
      report.checked++;
      report.bytes += row.size ?? 0;
      if (outcome !== null) {
        if (outcome.fault === "missing") report.missing++;
        else report.damaged++;
        if (report.findings.length < FINDINGS_MAX) report.findings.push(outcome);
      }
    }
    told(row.id);
    signal?.throwIfAborted();
  }
}

async function* walk({ artifacts }: VerifyPorts, start: string): AsyncGenerator<Artifact, void, void> {
  for (let after = start; ;) {
    const page = await artifacts.walk(after, PAGE);
    yield* page;
    if (page.length < PAGE) return;
    after = page.at(-1)!.id;
  }
}

/** Null when all is well, also with an artifact that has gone meanwhile. */
export async function damageOf(
  ports: Pick<VerifyPorts, "blobs"> & { readonly artifacts: Pick<ArtifactStore, "get"> },
  row: Artifact,
  signal?: AbortSignal,
): Promise<Damage | null> {
  const first = await inspect(ports, row, signal);
  if (first === null) return null;
  // Deleted since it was listed, its bytes may rightly be gone; and what could not be read may have been a hiccup.
  const current = await ports.artifacts.get({ id: row.id });
  if (current === null || current.status !== "upload_completed" || current.blobKey !== row.blobKey)
    return null;
  return inspect(ports, row, signal);
}

async function inspect(
  { blobs }: Pick<VerifyPorts, "blobs">,
  { id, dockId, filename, blobKey, size, digest }: Artifact,
  signal?: AbortSignal,
): Promise<Damage | null> {
  const key = blobKey ?? "";
  const expected = { size: size ?? 0, digest: digest ?? "" };
  const damage = (fault: Damage["fault"], actual: Damage["actual"]): Damage => ({
    id,
    dockId,
    filename,
    key,
    fault,
    expected,
    actual,
  });
  let actual: Damage["actual"];
  try {
    actual = key === "" ? null : await blobs.digest(key, signal === undefined ? {} : { signal });
  } catch {
    signal?.throwIfAborted();
    // One bad sector is a finding; storage that is away is the end of the walk.
    await blobs.ready();
    return damage("unreadable", null);
  }
  if (actual === null) return damage("missing", null);
  return actual.size === expected.size && actual.digest === expected.digest
    ? null
    : damage("altered", { size: actual.size, digest: actual.digest });
}

/** The same answer for an id each time, and for neighbouring ids as if by chance. */
export function isInSample(id: string, share: number): boolean {
  if (share >= 1) return true;
  // FNV-1a, then the last steps of MurmurHash3: ids differ in few characters.
  let hash = 0x811c9dc5;
  for (let i = 0; i < id.length; i++) hash = Math.imul(hash ^ id.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return ((hash ^ (hash >>> 16)) >>> 0) / 2 ** 32 < share;
}

// ---- every blob has its artifact -------------------------------------------------------------------------------

async function findOrphans(
  { artifacts, blobs }: VerifyPorts,
  { graceMs, now = Date.now, signal }: VerifyOptions,
  report: Report,
  start: string,
  told: (after: string) => void,
): Promise<void> {
  for await (const page of blobPages(blobs, FINAL_PREFIX, { after: start, signal })) {
    for (const { key, size, modifiedAt } of page) {
      report.blobs++;
      const before = now() - graceMs;
      // An import puts bytes before rows: what is new may find its artifact yet.
      const claim = modifiedAt > before ? "wanted" : await claimOn(artifacts, key, before);
      // The sweep may have been quicker than the list.
      if (claim === "wanted" || (await blobs.list(key, { limit: 1 }))[0]?.key !== key) continue;
      report.orphaned++;
      report.orphanedBytes += size;
      if (report.orphans.length < FINDINGS_MAX) report.orphans.push({ key, size, claim });
    }
    if (page.length > 0) told(page.at(-1)!.key);
  }
}
