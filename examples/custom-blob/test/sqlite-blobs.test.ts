/** The store keeps every sentence of the port's contract, by the suite that docyard's own stores are held to. */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { redeemBy, testBlobStore } from "@docyard/adapters/conformance/blob-store";
import { sqliteBlobs } from "../src/sqlite-blobs.ts";

testBlobStore(
  "sqlite",
  async () => {
    const folder = await mkdtemp(join(tmpdir(), "docyard-example-"));
    const file = join(folder, "blobs.db");
    let turned = 0;
    const now = (): number => Date.now() + turned;
    const blobs = sqliteBlobs(file, {
      baseUrl: "http://docyard.test",
      secret: new Uint8Array(32).fill(7),
      now,
    });
    return {
      blobs,
      redeem: redeemBy(blobs.serve!),
      /** Every key, and every body whose pieces nobody names. */
      async leftovers() {
        const db = new DatabaseSync(file);
        const rows = db
          .prepare(
            "SELECT key FROM blob UNION SELECT body FROM piece WHERE body NOT IN (SELECT body FROM blob)",
          )
          .all();
        db.close();
        return rows.map(({ key }) => String(key));
      },
      /** By the clock that judges expiry, which is ours to turn. */
      async wait(ms) {
        turned += ms;
      },
      async close() {
        await blobs.close();
        await rm(folder, { recursive: true });
      },
    };
  },
  { urls: "serve", attests: true },
);
