/**
 * The grammar of the commands that look at everything: verify, gc, backup, restore, export, import, stats, artifact.
 * Each is loaded when it is called: whoever makes a client pays for none of them.
 */

import type { Command, Flag } from "./command.ts";

const DOCK_ID = { name: "dock", describe: "The dock's id" };
const CHECK: Flag = { describe: "Read what an earlier run left before it is believed (folders only)" };

export const OPERATOR_COMMANDS: Readonly<Record<string, Command>> = {
  verify: {
    describe:
      "Read all stored bytes and compare them with the rows, and look for bytes that no artifact wants; exit code 3: something is missing or damaged",
    flags: {
      sample: {
        describe: "Read only a share of the artifacts, the same each time: 10%, or how many",
        value: "SHARE",
      },
      rate: { describe: "Most bytes a second to read, such as 50MiB", value: "SIZE" },
      state: { describe: "File to keep how far it is; an interrupted run goes on from there", value: "FILE" },
      orphans: { describe: "Whether to look for bytes that no artifact wants: yes, no", value: "HOW" },
    },
    options: ["blob"],
    run: async (said, config) => (await import("./verify.ts")).verify(said, config),
  },
  gc: {
    describe: "Count the stored bytes that no artifact wants any more",
    flags: { apply: { describe: "Remove them" } },
    options: ["blob"],
    run: async (said, config) => (await import("./gc.ts")).gc(said, config),
  },
  backup: {
    describe:
      "Copy everything, as of one moment, into a folder (a second backup adds what is new) or a new .tar file; exit code 3: done, but bytes of some artifacts are missing or damaged here. The backup holds secrets, readable by you alone (mode 0600), and not the key file",
    positional: { name: "target", describe: "A folder, or a file that ends in .tar" },
    flags: { check: CHECK },
    options: ["blob"],
    run: async (said, config) => (await import("./backup.ts")).backup(said, config),
  },
  restore: {
    describe:
      "Fill an empty store and an empty blob store from a backup, of whatever kind either is; exit code 3: done, but bytes of some artifacts are not in the backup",
    positional: { name: "source", describe: "A folder, or a file that ends in .tar" },
    flags: {},
    options: ["blob"],
    isBeginning: true,
    run: async (said, config) => (await import("./backup.ts")).restore(said, config),
  },
  export: {
    describe:
      "Copy the completed artifacts of a dock, for any other server to import; no accounts, no secrets",
    positional: DOCK_ID,
    more: { name: "target", describe: "A folder, or a file that ends in .tar", how: "one" },
    flags: { check: CHECK },
    options: ["blob"],
    run: async (said, config) => (await import("./export.ts")).exportDock(said, config),
  },
  import: {
    describe: "Add the artifacts of an export to a dock; what is there already is left as it is",
    positional: { name: "source", describe: "A folder, or a file that ends in .tar" },
    flags: { dock: { describe: "Into which dock (default: of the same id)", value: "ID" } },
    options: ["blob"],
    run: async (said, config) => (await import("./export.ts")).importDock(said, config),
  },
  stats: {
    describe: "Tell what each dock holds and may hold",
    flags: {},
    options: ["blob"],
    run: async (said, config) => (await import("./stats.ts")).stats(said, config),
  },
  "artifact list": {
    describe: "List artifacts of a dock, newest first",
    positional: DOCK_ID,
    flags: {
      search: { describe: "Part of the filename", value: "TEXT" },
      metadata: { describe: 'Metadata to be contained, such as {"patientId":"12345"}', value: "JSON" },
      limit: { describe: "Most to list (default: 20, at most 1000)", value: "N" },
      status: {
        describe: "created, upload_started, upload_completed (default), upload_failed; several with commas",
        value: "WORDS",
      },
    },
    options: ["blob"],
    run: async (said, config) => (await import("./artifact-commands.ts")).listArtifacts(said, config),
  },
  "artifact get": {
    describe: "Show an artifact",
    positional: { name: "id", describe: "art_…" },
    flags: {},
    options: ["blob"],
    run: async (said, config) => (await import("./artifact-commands.ts")).getArtifact(said, config),
  },
  "artifact upload": {
    describe: "Store files in a dock; what the dock has already is not sent",
    positional: DOCK_ID,
    more: { name: "files", describe: "Files", how: "many" },
    flags: {
      metadata: { describe: "A JSON object", value: "JSON" },
      "content-type": { describe: "Such as application/pdf", value: "TYPE" },
      name: { describe: "Filename to store under (default: the file's own)", value: "NAME" },
    },
    options: ["blob", "maxSize"],
    run: async (said, config) => (await import("./artifact-commands.ts")).uploadFiles(said, config),
  },
  "artifact download": {
    describe:
      "Get the bytes of an artifact, verified; goes on with what an interrupted run left in FILE.part",
    positional: { name: "id", describe: "art_…" },
    more: { name: "file", describe: "Where to (default: its filename, here)", how: "optional" },
    flags: { force: { describe: "Replace a file that is there" } },
    options: ["blob"],
    run: async (said, config) => (await import("./artifact-commands.ts")).downloadFile(said, config),
  },
  "artifact rm": {
    describe: "Delete artifacts; their bytes go after the grace period",
    positional: { name: "id", describe: "art_…" },
    more: { name: "ids", describe: "More of them", how: "any" },
    flags: {},
    options: ["blob"],
    run: async (said, config) => (await import("./artifact-commands.ts")).removeArtifacts(said, config),
  },
};
