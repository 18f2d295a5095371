/**
 * `backup` and `restore`: core's archive of everything, in a folder or a tar file. Exit code 3 says that it is done, and
 * that bytes of some artifacts are missing from it.
 */

import type {
  ArchiveProgress,
  ArchiveReader,
  ArchiveWriter,
  BackupReport,
  RestoreReport,
} from "@docyard/core";
import { backup as backUp, isDocyardError, restore as restoreAll } from "@docyard/core";
import { type ArchivePlan, folderReader, folderWriter } from "./archive-folder.ts";
import { tarReader, tarWriter } from "./archive-tar.ts";
import type { Answer, Said } from "./command.ts";
import type { Config } from "./config.ts";
import { EXIT_DAMAGE, Failure, reasonOf, UsageError } from "./failure.ts";
import { keyFileOf } from "./keyring.ts";
import { printRoughSize } from "./measure.ts";
import { operate, type Operation } from "./operator.ts";
import { list, record } from "./print.ts";
import { startProgress } from "./progress.ts";
import { sealedSecrets } from "./secrets.ts";
import { VERSION } from "./version.ts";

/** What a backup holds. */
const WHOLE = { kind: "backup", dock: null } as const;

export async function backup(said: Said, config: Config): Promise<Answer> {
  const target = said.positional;
  return operate(
    said,
    config,
    async (operation) => {
      const report = await writing(target, { ...WHOLE, isChecked: said.has("check") }, (archive) =>
        watched((onProgress) =>
          backUp(operation, archive, { version: VERSION, signal: operation.signal, onProgress }),
        ),
      );
      await tellAboutKeys(operation);
      return answer(target, report);
    },
    isTar(target)
      ? "a tar file starts anew"
      : `${target} is not complete; run it again to go on with what it has`,
  );
}

function answer(target: string, { manifest, kept, amended, lost }: BackupReport): Answer {
  const { createdAt, counts } = manifest;
  if (counts.lost > 0) process.exitCode = EXIT_DAMAGE;
  const document = {
    target,
    createdAt,
    ...counts,
    kept,
    deletedMeanwhile: amended,
    lost: counts.lost,
    findings: lost,
  };
  const { findings: _, ...fields } = document;
  return {
    document,
    text: withFindings(
      record(`Backup of ${createdAt} is complete.`, { ...fields, bytes: printRoughSize(counts.bytes) }),
      lost,
    ),
  };
}

/** Sealed secrets open with the key file alone, and that is not in the archive: whoever finds one has not both. */
async function tellAboutKeys({ store, config }: Operation): Promise<void> {
  if ((await sealedSecrets(store)).length === 0) return;
  process.stderr.write(
    `The backup holds sealed S3 credentials, and not the keys that open them: keep a copy of ${keyFileOf(config)} elsewhere.\n`,
  );
}

export async function restore(said: Said, config: Config): Promise<Answer> {
  const source = said.positional;
  return operate(
    said,
    config,
    async (operation) => {
      const report = await reading(source, (archive) =>
        watched((onProgress) => restoreAll(operation, archive, { signal: operation.signal, onProgress })),
      );
      return restored(source, report);
    },
    "run it again to go on",
  );
}

function restored(source: string, { manifest, blobs, lost, lostCount }: RestoreReport): Answer {
  const { createdAt, counts } = manifest;
  if (lostCount > 0) process.exitCode = EXIT_DAMAGE;
  const { accounts, artifacts, events, bytes } = counts;
  const fields = { source, createdAt, accounts, artifacts, events, blobs, bytes, lost: lostCount };
  return {
    document: { ...fields, findings: lost },
    text: withFindings(
      record(`Restored the backup of ${createdAt}.`, { ...fields, bytes: printRoughSize(bytes) }),
      lost,
    ),
  };
}

export function withFindings(text: string, findings: readonly object[]): string {
  return findings.length === 0 ? text : `${text}\nWithout their bytes:\n\n${list(findings)}`;
}

// ---- archives by their names -----------------------------------------------------------------------------------

function isTar(path: string): boolean {
  return /\.tar$/i.test(path);
}

/** Makes an archive at a path: a file when it ends in `.tar`, else a folder. */
export async function writing<T>(
  path: string,
  plan: ArchivePlan,
  work: (archive: ArchiveWriter) => Promise<T>,
): Promise<T> {
  refuseStrange(path);
  if (!isTar(path)) return work(await opening(path, () => folderWriter(path, plan)));
  const archive = await opening(path, () => tarWriter(path));
  try {
    return await work(archive);
  } finally {
    await archive.close();
  }
}

export async function reading<T>(path: string, work: (archive: ArchiveReader) => Promise<T>): Promise<T> {
  refuseStrange(path);
  if (!isTar(path)) return work(await opening(path, () => folderReader(path)));
  const archive = await opening(path, () => tarReader(path));
  try {
    return await work(archive);
  } finally {
    await archive.close();
  }
}

/** What the system says of a path does not name it. */
async function opening<T>(path: string, open: () => Promise<T>): Promise<T> {
  try {
    return await open();
  } catch (error) {
    if (error instanceof Failure || isDocyardError(error)) throw error;
    throw new Failure(`${path}: ${reasonOf(error)}`, { cause: error });
  }
}

/** @throws UsageError for what is no path of an archive */
function refuseStrange(path: string): void {
  if (path === "") throw new UsageError("an archive is a folder or a .tar file: name one");
  if (/\.(?:gz|tgz|xz|zst|bz2|zip|7z)$/i.test(path)) {
    throw new UsageError(`${path}: an archive is a folder or a .tar file; compress it afterwards`);
  }
}

/** Shows how far an archive is. */
export async function watched<T>(
  work: (onProgress: (progress: ArchiveProgress) => void) => Promise<T>,
): Promise<T> {
  const progress = await startProgress({ noun: "rows" });
  try {
    return await work(({ stage, ...measure }) => progress.tell(stage, measure));
  } finally {
    progress.stop();
  }
}
