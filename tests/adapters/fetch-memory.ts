/**
 * The child process of the memory test: reads a URL with pauses and reports bytes, digest and growth of its memory.
 * Run as `node --expose-gc --conditions=docyard-src fetch-memory.ts URL`.
 */

import { httpFetch } from "@docyard/adapters/fetch/http";
import { createHash } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";

const fetcher = httpFetch({ allow: ["127.0.0.0/8"] });
const digest = createHash("sha256");
const { body } = await fetcher.open(process.argv[2] ?? "", { sizeMax: 2 ** 30 });
const before = process.memoryUsage().rss;
let peak = before;
let bytes = 0;
let next = 0;
for await (const chunk of body) {
  digest.update(chunk);
  bytes += chunk.length;
  if (bytes < next) continue;
  next += 16 * 1024 * 1024;
  // While this reader rests, a driver without back-pressure would go on filling memory.
  await delay(20);
  // Memory that is still held, not garbage that V8 has not come to yet (a plain HTTP client leaves 90 MB of that).
  globalThis.gc?.();
  peak = Math.max(peak, process.memoryUsage().rss);
}
await fetcher.close();
console.log(JSON.stringify({ bytes, digest: digest.digest("hex"), growth: peak - before }));
