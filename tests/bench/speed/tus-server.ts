/** @tus/server on files, as its manual says, in a process of its own. It neither hashes nor syncs. */

import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { FileStore } from "@tus/file-store";
import { Server } from "@tus/server";

const tus = new Server({ path: "/files", datastore: new FileStore({ directory: process.argv[2]! }) });
const server = createServer((incoming, outgoing) => void tus.handle(incoming, outgoing));
server.listen(0, "127.0.0.1", () => {
  console.log(JSON.stringify({ port: (server.address() as AddressInfo).port }));
});
