/**
 * Files what it is given and says what there is: `node src/file.ts FOLDER FILE…`. Core alone, without HTTP, tokens or
 * URLs; who may do what is this program's own affair, said in a `Principal`.
 */

import { createReadStream } from "node:fs";
import { mkdir } from "node:fs/promises";
import { basename } from "node:path";
import { diskBlobs } from "@docyard/adapters/blob/disk";
import { memoryLimit } from "@docyard/adapters/limit/memory";
import { memoryQueue } from "@docyard/adapters/queue/memory";
import { sqliteStore } from "@docyard/adapters/store/sqlite";
import { createDocyard, createProvisioning, FIRST_DOCK_ID, FIRST_ORGANIZATION_ID } from "@docyard/core";
import type { Principal } from "@docyard/core";

const [folder = "docyard", ...paths] = process.argv.slice(2);
await mkdir(folder, { recursive: true });
const store = await sqliteStore({ file: `${folder}/docyard.db` });
const blobs = await diskBlobs({
  root: `${folder}/data`,
  // No URL leaves this program, so nobody redeems one.
  baseUrl: "http://nowhere.invalid",
  secret: crypto.getRandomValues(new Uint8Array(32)),
});
const docyard = createDocyard({ store, blobs, queue: memoryQueue(), limit: memoryLimit() });

// The first time: an organization and a dock. Its client and key are for HTTP, and nobody needs them here.
await createProvisioning(store.accounts).firstRun();

/** Whoever may run this program may do this. */
const me: Principal = {
  id: `user_${process.env["USER"] ?? "nobody"}`,
  organizationId: FIRST_ORGANIZATION_ID,
  dockId: FIRST_DOCK_ID,
  scopes: ["artifacts:read", "artifacts:write"],
};

const write = await docyard.open(me, FIRST_DOCK_ID, "artifacts:write");
for (const path of paths) {
  const { artifact } = await write.create({ filename: basename(path), metadata: { path } });
  // Where a signed URL would have put it.
  await blobs.put(artifact.stagingKey!, createReadStream(path), { sizeMax: docyard.settings.sizeMax });
  await write.complete({ uploadId: artifact.uploadId! });
}

const read = await docyard.open(me, FIRST_DOCK_ID, "artifacts:read");
const { items } = await read.list({ limit: 100 });
for (const { artifact } of items) console.log(artifact.digest, artifact.size, artifact.filename);

await blobs.close();
await store.close();
