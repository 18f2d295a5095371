/**
 * The thread that writes while many do: a connection of its own, and batches of writes by message. Who sends them, and
 * when there is such a thread at all, is `sqlite-writer.ts`.
 */

import { DocyardError } from "@docyard/core";
import { parentPort, workerData } from "node:worker_threads";
import type { SqliteStoreOptions } from "./sqlite-open.ts";
import { openSqlite } from "./sqlite-open.ts";
import type { Batch, Fault, Outcome, Report } from "./sqlite-writer.ts";
import { sqliteWriter } from "./sqlite-writes.ts";

const options = workerData as SqliteStoreOptions;
const port = parentPort;
if (port === null) throw new Error("what writes to SQLite for a store runs in a thread");
// oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
const report = (what: Report): void => port.postMessage(what);

const opened = await openSqlite(options);
// Whoever was about to come is in the batch already; what comes later has a message, and a commit, of its own.
const writer = sqliteWriter(opened, options, { gather: queueMicrotask });

let reported = Promise.resolve();
port.on("message", (batch: Batch) => {
  if (batch === "close") {
    opened.db.close();
    port.close();
  } else {
    // None of them rejects. What waits for another process's lock is not overtaken by what came later.
    const outcomes = Promise.all(batch.map(run));
    reported = reported.then(async () => report(await outcomes));
  }
});
report("ready");

async function run([name, args, taken]: Exclude<Batch, "close">[number]): Promise<Outcome> {
  try {
    return await writer.write(name, args, taken);
  } catch (error) {
    return { fault: faultOf(error) };
  }
}

/** An error as it can be sent: of a class of our own its fields would be lost. */
function faultOf(error: unknown): Fault {
  if (!(error instanceof DocyardError)) return { error };
  const { code, message, issues, retryAfterMs, cause } = error;
  return { error: new Error(message, { cause }), docyard: { code, issues, retryAfterMs } };
}
