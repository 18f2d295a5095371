/** A replica that does nothing but write, for a test to stop in the middle: `postgres-writer.ts URL DOCK`. */

import { postgresStore } from "@docyard/adapters/store/postgres";
import { plainArtifact } from "../arbitraries.ts";

const [url = "", dockId = ""] = process.argv.slice(2);
/** Of this process: others wait for its locks no longer. */
const IDLE_TRANSACTION_TIMEOUT_MS = 500;
/** Above the numbers of the test that starts it. */
const FIRST = 1_000_000;

const store = await postgresStore({ url, idleTransactionTimeoutMs: IDLE_TRANSACTION_TIMEOUT_MS });
for (let i = FIRST; ; i++) {
  await store.artifacts.insert(plainArtifact(i, { dockId }), { type: "artifact.created", at: 0, by: null });
  if (i === FIRST) process.stdout.write("writing\n");
}
