/** A consumer in a process of its own, to be killed with a ring in hand, or to end by itself. */

import { redisQueue } from "@docyard/adapters/queue/redis";

const [url = "", name = "", end] = process.argv.slice(2);
const queue = await redisQueue({ url, name });
if (end === "end") {
  const stop = new AbortController();
  const consuming = queue.consume(async () => {}, { concurrency: 1, signal: stop.signal });
  await queue.push("a");
  stop.abort();
  await consuming;
  await queue.close();
  process.send?.("closed");
  process.disconnect?.();
} else {
  await queue.consume(
    async (id) => {
      process.send?.(id);
      await new Promise(() => {});
    },
    { concurrency: 1, signal: new AbortController().signal },
  );
}
