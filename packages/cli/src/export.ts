/** `export` and `import` of a dock: core's archive of its completed artifacts, in a folder or a tar file. */

import { exportDock as exportAll, importDock as importAll, readManifest } from "@docyard/core";
import { reading, watched, withFindings, writing } from "./backup.ts";
import type { Answer, Said } from "./command.ts";
import type { Config } from "./config.ts";
import { EXIT_DAMAGE, Failure } from "./failure.ts";
import { printRoughSize } from "./measure.ts";
import { dockNamed, operate, OPERATOR_ID } from "./operator.ts";
import { record } from "./print.ts";
import { VERSION } from "./version.ts";

export async function exportDock(said: Said, config: Config): Promise<Answer> {
  const target = said.more[0]!;
  return operate(
    said,
    config,
    async (operation) => {
      const dock = await dockNamed(operation, said.positional);
      const { signal } = operation;
      const plan = { kind: "export", dock: dock.id, isChecked: said.has("check") } as const;
      const { manifest, kept, ended, lost } = await writing(target, plan, (archive) =>
        watched((onProgress) =>
          exportAll(operation, dock, archive, { version: VERSION, signal, onProgress }),
        ),
      );
      const { createdAt, counts } = manifest;
      if (counts.lost > 0) process.exitCode = EXIT_DAMAGE;
      const { artifacts, blobs, bytes } = counts;
      const fields = {
        target,
        dock: dock.id,
        createdAt,
        artifacts,
        blobs,
        bytes,
        kept,
        deletedMeanwhile: ended,
        lost: counts.lost,
      };
      return {
        document: { ...fields, findings: lost },
        text: withFindings(
          record(`Dock ${dock.id} is exported.`, { ...fields, bytes: printRoughSize(bytes) }),
          lost,
        ),
      };
    },
    `${target} is not complete; run it again`,
  );
}

export async function importDock(said: Said, config: Config): Promise<Answer> {
  const source = said.positional;
  return operate(
    said,
    config,
    async (operation) => {
      const { signal } = operation;
      const { dock, report } = await reading(source, async (archive) => {
        const { kind, dock: named } = readManifest(archive.manifest);
        if (kind !== "export") throw new Failure(`${source} is a backup of a whole server: restore it`);
        const dock = await dockNamed(operation, said.flag("dock") ?? named ?? "");
        const report = await watched((onProgress) =>
          importAll(operation, archive, dock, { by: OPERATOR_ID, signal, onProgress }),
        );
        return { dock, report };
      });
      const { manifest, imported, present, duplicates, renamed, lost, lostCount } = report;
      if (lostCount > 0) process.exitCode = EXIT_DAMAGE;
      const fields = {
        source,
        dock: dock.id,
        createdAt: manifest.createdAt,
        artifacts: manifest.counts.artifacts,
        imported,
        present,
        duplicates,
        renamed,
        lost: lostCount,
      };
      return {
        document: { ...fields, findings: lost },
        text: withFindings(record(`Imported into dock ${dock.id}.`, fields), lost),
      };
    },
    "what was imported stays; run it again to go on",
  );
}
