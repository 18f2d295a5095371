/**
 * A process of its own that writes to a SQLite file, for tests of several processes and of sudden death:
 * `store-writer.ts FILE FIRST COUNT [thread]`. Prints the number of each artifact once its completion is acknowledged.
 */

import { sqliteStore } from "@docyard/adapters/store/sqlite";
import { plainArtifact } from "../arbitraries.ts";

/** Writes under way at a time, so that groups form. */
const CALLERS = 8;

const [file = "", first = "0", count = "0", thread = ""] = process.argv.slice(2);
const store = await sqliteStore({
  file,
  busyTimeoutMs: 30_000,
  writerThread: thread === "thread" ? { crowd: 0 } : null,
});
let next = Number(first);
const end = next + Number(count);

const write = async (): Promise<void> => {
  while (next < end) {
    const number = next++;
    const artifact = plainArtifact(number, { status: "created", metadata: { writer: first, number } });
    await store.artifacts.insert(artifact, { type: "artifact.created", at: number, by: null });
    const event = { type: "artifact.completed", at: number, by: null } as const;
    await store.artifacts.update(artifact.id, 1, { status: "upload_completed" }, event);
    process.stdout.write(`${number}\n`);
  }
};
await Promise.all(Array.from({ length: CALLERS }, write));
await store.close();
