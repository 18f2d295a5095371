#!/usr/bin/env node
// better-sqlite3 needs Node-API 10: an older Node would die at the first query without a word.
if (Number(process.versions.napi) < 10) {
  console.error(`docyard-server needs Node 24 or newer; this is Node ${process.versions.node}.`);
  process.exit(1);
}
const { main } = await import("../dist/main.js");
await main(process.argv.slice(2));
