/**
 * `verify`: core's verification with a file to go on from, a limit on its reading, and a sample. Exit code 3 says that
 * something is damaged or missing; orphans alone are no damage.
 */

import { open, readFile, rename, rm, writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import type { VerifyReport, VerifyState } from "@docyard/core";
import { verify as verifyAll } from "@docyard/core";
import type { Answer, Said } from "./command.ts";
import type { Config } from "./config.ts";
import { EXIT_DAMAGE, Failure, reasonOf, UsageError } from "./failure.ts";
import { isErrno } from "./files.ts";
import { parseSize, printRoughSize } from "./measure.ts";
import { completedTotal, operate, type Operation } from "./operator.ts";
import { list } from "./print.ts";
import { startProgress } from "./progress.ts";

/** Milliseconds between two writes of the state file. */
const SAVE_EVERY_MS = 2_000;

/** Names of files are in it, and they are other people's. */
const STATE_MODE = 0o600;

/** What the state file holds. */
interface Saved {
  /** As it was said, and which share that was: of how many artifacts may be another number by now. */
  readonly said: string | null;
  readonly sample: number;
  readonly orphans: boolean;
  readonly state: VerifyState;
}

export async function verify(said: Said, config: Config): Promise<Answer> {
  const file = said.flag("state");
  const howToGoOn =
    file === undefined
      ? "it starts from the beginning next time (with --state FILE it goes on)"
      : `run it again with --state ${file} to go on`;
  return operate(said, config, (operation) => run(operation, file), howToGoOn);
}

async function run(operation: Operation, file: string | undefined): Promise<Answer> {
  const { docyard, store, blobs, said, signal } = operation;
  const rate = rateOf(said.flag("rate"));
  const orphans = yesOrNo("orphans", said.flag("orphans") ?? "yes");
  const total = await completedTotal(operation);
  const wanted = said.flag("sample") ?? null;
  const share = shareOf(wanted ?? undefined, total);
  const saved = file === undefined ? null : await readState(file);
  if (saved !== null && (saved.said !== wanted || saved.orphans !== orphans)) {
    throw new Failure(`${file} is of a verification with other flags: repeat those, or remove the file`);
  }

  const sample = saved?.sample ?? share;
  if (file !== undefined) await requireWritable(file);

  const progress = await startProgress({ noun: "artifacts" });
  let state: VerifyState | null = saved?.state ?? null;
  let savedAt = performance.now();
  let saving: Promise<unknown> = Promise.resolve();
  let unsaved: unknown = null;
  const save = (): void => {
    if (file === undefined || state === null) return;
    savedAt = performance.now();
    // As it is now: it goes on changing.
    const text = `${JSON.stringify({ said: wanted, sample, orphans, state } satisfies Saved)}\n`;
    saving = saving
      .then(() => writeState(file, text))
      .then(
        () => (unsaved = null),
        (error: unknown) => (unsaved = error),
      );
  };
  let report: VerifyReport;
  try {
    report = await verifyAll(
      { artifacts: store.artifacts, blobs },
      {
        graceMs: docyard.settings.graceMs,
        sample,
        orphans,
        signal,
        ...(state === null ? {} : { resume: state }),
        ...(rate === null ? {} : { pace: pacer(rate, signal) }),
        onProgress(at) {
          state = at;
          const { checked, skipped, bytes, blobs: looked } = at.report;
          if (at.phase === "artifacts") progress.tell("verify", { done: checked + skipped, total, bytes });
          else progress.tell("orphans", { done: looked, total: null, bytes: 0 });
          if (performance.now() - savedAt > SAVE_EVERY_MS) save();
        },
      },
    );
  } catch (error) {
    save();
    throw error;
  } finally {
    progress.stop();
    await saving;
    // What was found is worth more than where it was.
    if (unsaved !== null) process.stderr.write(`--state ${file} is not up to date: ${reasonOf(unsaved)}\n`);
  }
  if (file !== undefined) for (const path of [partOf(file), file]) await rm(path, { force: true });
  if (report.missing + report.damaged > 0) process.exitCode = EXIT_DAMAGE;
  return { document: report, text: print(report) };
}

function print(report: VerifyReport): string {
  const { checked, bytes, skipped, missing, damaged, findings, blobs, orphaned, orphanedBytes, orphans } =
    report;
  const table = findings.map(({ id, dockId, filename, key, fault, expected, actual }) => ({
    fault,
    id,
    dock: dockId,
    filename,
    key,
    expected: `sha256:${expected.digest} ${expected.size}`,
    actual: actual === null ? null : `sha256:${actual.digest} ${actual.size}`,
  }));
  const left = skipped > 0 ? `, ${skipped} not in the sample` : "";
  return [
    findings.length > 0 ? `${list(table)}\n` : "",
    orphans.length > 0 ? `${list(orphans.map(({ claim, key, size }) => ({ claim, size, key })))}\n` : "",
    `${checked} artifacts checked, ${printRoughSize(bytes)}${left}: ${missing} missing, ${damaged} damaged\n`,
    blobs > 0
      ? `${blobs} blobs looked at: ${orphaned} that no artifact wants, ${printRoughSize(orphanedBytes)}\n`
      : "",
  ].join("");
}

// ---- flags -----------------------------------------------------------------------------------------------------

/** `10%`, or about how many artifacts. */
export function shareOf(text: string | undefined, total: number): number {
  if (text === undefined) return 1;
  const [, number, percent] = /^(\d{1,9}(?:\.\d{1,6})?)(%?)$/.exec(text) ?? [];
  const share = percent === "%" ? Number(number) / 100 : Number(number) / Math.max(1, total);
  const isWhole = percent === "%" || Number.isSafeInteger(Number(number));
  if (!(share > 0) || !isWhole || (percent === "%" && share > 1)) {
    throw new UsageError("--sample: write a share such as 10%, or how many artifacts such as 1000");
  }
  return Math.min(1, share);
}

/** Bytes a second. */
export function rateOf(text: string | undefined): number | null {
  if (text === undefined) return null;
  const rate = parseSize(text);
  if (rate === null || rate < 1) throw new UsageError("--rate: write bytes a second such as 50MiB");
  return rate;
}

function yesOrNo(name: string, text: string): boolean {
  if (text !== "yes" && text !== "no") throw new UsageError(`--${name}: write yes or no`);
  return text === "yes";
}

/**
 * Lets so many bytes pass a second, on average: what was read ahead of its time is waited for before the next blob is.
 * A single blob is read as fast as it comes.
 */
function pacer(rate: number, signal: AbortSignal): (bytes: number) => Promise<void> {
  let freeAt = performance.now();
  return async (bytes) => {
    const now = performance.now();
    const wait = freeAt - now;
    freeAt = Math.max(freeAt, now) + (bytes / rate) * 1_000;
    if (wait > 0) await sleep(wait, undefined, { signal });
  };
}

// ---- the state file --------------------------------------------------------------------------------------------

async function readState(file: string): Promise<Saved | null> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    if (isErrno(error, "ENOENT")) return null;
    throw new Failure(`--state ${file}: ${reasonOf(error)}`, { cause: error });
  }
  try {
    const saved = JSON.parse(text) as Saved;
    if (typeof saved.state.after === "string" && Array.isArray(saved.state.report.findings)) return saved;
  } catch {
    // Told below.
  }
  throw new Failure(`--state ${file} holds no state of a verification: name another file`);
}

/** Not found out hours later. @throws Failure */
async function requireWritable(file: string): Promise<void> {
  try {
    await (await open(partOf(file), "w", STATE_MODE)).close();
  } catch (error) {
    throw new Failure(`--state ${file}: ${reasonOf(error)}`, { cause: error });
  }
}

async function writeState(file: string, text: string): Promise<void> {
  // Before it replaces a state that is whole.
  await writeFile(partOf(file), text, { mode: STATE_MODE, flush: true });
  await rename(partOf(file), file);
}

function partOf(file: string): string {
  return `${file}.part`;
}
