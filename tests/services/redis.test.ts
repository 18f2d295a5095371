/** The queue and the limit against a real Redis that is emptied, hangs, dies and comes back. */

import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { redisLimit } from "@docyard/adapters/limit/redis";
import { redisQueue } from "@docyard/adapters/queue/redis";
import type { Queue, RateLimit } from "@docyard/core";
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { NODE_ARGS } from "../sources.ts";
import { freshRedisDb, startRedis, type FreshRedis, type RedisService } from "./index.ts";
import { freePort } from "./workspace.ts";

/** Enough for a machine with other things to do; no test waits for it to pass. */
const PATIENCE_MS = 30_000;

let database: FreshRedis;
let redis: RedisService;
const cleanups: (() => unknown)[] = [];

beforeAll(async () => {
  [database, redis] = await Promise.all([freshRedisDb(), startRedis()]);
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});
afterAll(async () => {
  await database.remove();
  await redis.stop();
});

let names = 0;
const freshName = (): string => `test-${process.pid}-${names++}`;

async function openQueue(url: string, name: string, onError?: (error: Error) => void): Promise<Queue> {
  const queue = await redisQueue({ url, name, ...(onError === undefined ? {} : { onError }) });
  cleanups.push(() => queue.close());
  return queue;
}

async function openLimit(
  url: string,
  prefix = `${freshName()}:`,
  onError?: (error: Error) => void,
): Promise<RateLimit> {
  const limit = await redisLimit({ url, prefix, ...(onError === undefined ? {} : { onError }) });
  cleanups.push(() => limit.close());
  return limit;
}

interface Heard {
  readonly ids: string[];
  /** Resolves when this many have been heard in all. */
  until(count: number): Promise<void>;
  stop(): Promise<void>;
}

function listen(
  queue: Queue,
  concurrency = 4,
  handle: (id: string) => Promise<void> = async () => {},
): Heard {
  const ids: string[] = [];
  const stop = new AbortController();
  const consuming = queue.consume(
    async (id) => {
      ids.push(id);
      await handle(id);
    },
    { concurrency, signal: stop.signal },
  );
  const heard: Heard = {
    ids,
    until: (count) => eventually(() => ids.length >= count),
    async stop() {
      stop.abort();
      await consuming;
    },
  };
  cleanups.push(() => heard.stop());
  return heard;
}

/** A consumer in a process of its own, which does not outlive the test. */
function forkWorker(...args: string[]): ChildProcess {
  const child = fork(`${import.meta.dirname}/redis-worker.ts`, args, {
    execArgv: [...NODE_ARGS],
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  cleanups.push(() => child.kill("SIGKILL"));
  return child;
}

async function eventually(isTrue: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + PATIENCE_MS;
  while (!(await isTrue())) {
    if (Date.now() > deadline) throw new Error("It did not come to be");
    await sleep(10);
  }
}

/** Whether it settles before a limit far above what the driver allows itself, on the busiest machine. */
async function settles(promise: Promise<unknown>, limitMs = 10_000): Promise<boolean> {
  return Promise.race([promise.then(() => true), sleep(limitMs, false, { ref: false })]);
}

/** Whether both count in Redis by now: before they are connected, each counts by itself. */
async function shared(replicas: RateLimit[]): Promise<boolean> {
  const key = freshName();
  const wide = { max: 1_000, windowMs: 60_000 };
  await replicas[0]!.take(key, wide);
  return (await replicas[1]!.take(key, wide)).remaining === 998;
}

describe("the queue", () => {
  test("delivers every ring, over two consumers, and leaves no job behind", async () => {
    const name = freshName();
    const queue = await openQueue(database.url, name);
    const other = await openQueue(database.url, name);
    const [a, b] = [listen(queue, 3), listen(other, 3)];
    const ids = Array.from({ length: 60 }, (_, i) => `artifact_${i}`);
    await Promise.all(ids.map((id) => queue.push(id)));
    await eventually(() => a.ids.length + b.ids.length >= ids.length);
    expect(new Set([...a.ids, ...b.ids])).toEqual(new Set(ids));
    const client = new Redis(database.url);
    // Finished jobs that stayed would make the next ring for the same artifact a silent no-op.
    await eventually(async () => (await client.keys(`bull:${name}:*artifact_*`)).length === 0);
    await eventually(async () => (await client.keys(`bull:${name}:[0-9]*`)).length === 0);
    client.disconnect();
  });

  test("ids with colons, digits only, or long are as good as any", async () => {
    const queue = await openQueue(database.url, freshName());
    const heard = listen(queue);
    const ids = ["a:b", "12345", "665f1c2e9b1e8a0012345678", "x".repeat(200), "ü"];
    for (const id of ids) await queue.push(id);
    await heard.until(ids.length);
    expect(heard.ids.toSorted()).toEqual(ids.toSorted());
  });

  test("many rings for one that waits are one; a ring while it is handled rings afterwards", async () => {
    const queue = await openQueue(database.url, freshName());
    for (let i = 0; i < 5; i++) await queue.push("a");
    const first = Promise.withResolvers<void>();
    const heard = listen(queue, 4, async () => {
      if (heard.ids.length === 1) await first.promise;
    });
    await heard.until(1);
    await queue.push("a");
    await queue.push("a");
    await queue.push("b");
    await heard.until(2);
    expect(heard.ids).toEqual(["a", "b"]);
    first.resolve();
    await heard.until(3);
    await queue.push("c");
    await heard.until(4);
    expect(heard.ids).toEqual(["a", "b", "a", "c"]);
  });

  test("a delayed ring comes not before its time, and holds back none that is to come at once", async () => {
    const queue = await openQueue(database.url, freshName());
    const heard = listen(queue);
    const due = Date.now() + 700;
    await queue.push("a", { delayMs: 700 });
    await queue.push("a");
    await heard.until(1);
    await heard.until(2);
    // Redis's clock and ours are the same machine's; 5 ms for rounding.
    expect(Date.now()).toBeGreaterThanOrEqual(due - 5);
    expect(heard.ids).toEqual(["a", "a"]);
  });

  test("no more than `concurrency` at a time, and a failing handler is its own affair", async () => {
    const queue = await openQueue(database.url, freshName());
    let [running, most] = [0, 0];
    const heard = listen(queue, 2, async (id) => {
      most = Math.max(most, ++running);
      await sleep(5);
      running--;
      if (id.endsWith("3")) throw new Error("no luck");
    });
    for (let i = 0; i < 20; i++) await queue.push(`artifact_${i}`);
    await heard.until(20);
    expect(most).toBe(2);
    await queue.push("artifact_3");
    await heard.until(21);
  });

  test("the end of consuming waits for handlers under way, and what comes later stays for others", async () => {
    const name = freshName();
    const queue = await openQueue(database.url, name);
    const finish = Promise.withResolvers<void>();
    const heard = listen(queue, 1, () => finish.promise);
    await queue.push("slow");
    await heard.until(1);
    await queue.push("later");
    let stopped = false;
    const stopping = heard.stop().then(() => (stopped = true));
    await sleep(50);
    expect(stopped).toBe(false);
    finish.resolve();
    await stopping;
    expect(heard.ids).toEqual(["slow"]);
    const next = listen(queue);
    await next.until(1);
    expect(next.ids).toEqual(["later"]);
  });

  test("ready, close, and what comes after", async () => {
    const queue = await openQueue(database.url, freshName());
    await queue.ready();
    const heard = listen(queue);
    await queue.close();
    await queue.close();
    await heard.stop();
    await expect(queue.push("a")).rejects.toThrow("closed");
    await expect(queue.ready()).rejects.toThrow("closed");
    const consume = () =>
      queue.consume(async () => {}, { concurrency: 1, signal: new AbortController().signal });
    await expect(consume()).rejects.toThrow("closed");
  });

  test.each(["http://host", "not a url", "redis//:secret@host"])(
    "the URL %s is refused, unquoted",
    async (url) => {
      const failure = (await redisQueue({ url }).catch((error: unknown) => error)) as Error;
      expect(failure).toBeInstanceOf(TypeError);
      expect(failure.message).not.toContain("secret");
      await expect(redisLimit({ url })).rejects.toBeInstanceOf(TypeError);
    },
  );

  test.each(["", "a:b", "a b"])("the name %j is refused", async (name) => {
    await expect(redisQueue({ url: database.url, name })).rejects.toBeInstanceOf(TypeError);
  });

  test.each([0, -1, 1.5, Number.NaN])("a concurrency of %d is refused", async (concurrency) => {
    const queue = await openQueue(database.url, freshName());
    const { signal } = new AbortController();
    await expect(queue.consume(async () => {}, { concurrency, signal })).rejects.toBeInstanceOf(TypeError);
  });

  test("a worker that is killed with a ring loses it to another", async () => {
    const name = freshName();
    const child = forkWorker(database.url, name);
    const queue = await openQueue(database.url, name);
    await queue.push("a");
    expect(await once(child, "message")).toEqual(["a", undefined]);
    child.kill("SIGKILL");
    await once(child, "exit");
    // The lock's end is 30 s away: the test takes the lock away instead of waiting for it.
    const client = new Redis(database.url);
    for (const key of await client.keys(`bull:${name}:*:lock`)) await client.del(key);
    // Marked as perhaps stalled by the last check, as it would be after another 30 s.
    await client.sadd(`bull:${name}:stalled`, ...(await client.lrange(`bull:${name}:active`, 0, -1)));
    await client.del(`bull:${name}:stalled-check`);
    client.disconnect();
    const heard = listen(queue);
    await heard.until(1);
    expect(heard.ids).toEqual(["a"]);
  });
});

describe("the queue, when Redis", () => {
  test("restarts empty: goes on by itself, and the same ids ring again", async () => {
    const queue = await openQueue(redis.url, freshName());
    const heard = listen(queue);
    await queue.push("a");
    await heard.until(1);
    await queue.push("a", { delayMs: 3_600_000 });
    await redis.restart();
    await eventually(() =>
      queue.ready().then(
        () => true,
        () => false,
      ),
    );
    await queue.push("a");
    await queue.push("b");
    await heard.until(3);
    expect(heard.ids.toSorted()).toEqual(["a", "a", "b"]);
  });

  test("hangs: a push does not, and its ring arrives when Redis goes on", async () => {
    const errors: Error[] = [];
    const queue = await openQueue(redis.url, freshName(), (error) => errors.push(error));
    const heard = listen(queue);
    await queue.ready();
    process.kill(redis.pids[0]!, "SIGSTOP");
    try {
      expect(await settles(queue.push("a"))).toBe(true);
      expect(
        await settles(Promise.all(Array.from({ length: 50 }, (_, i) => queue.push(`artifact_${i}`)))),
      ).toBe(true);
      await expect(queue.ready()).rejects.toThrow("Redis does not answer");
    } finally {
      process.kill(redis.pids[0]!, "SIGCONT");
    }
    await eventually(() => new Set(heard.ids).size === 51);
    expect(errors.length).toBeGreaterThanOrEqual(1);
    expect(errors.length).toBeLessThanOrEqual(3);
  });

  test("is gone: pushes do not fail and soon do not wait, closing does not hang; rings arrive when it is back", async () => {
    const queue = await openQueue(redis.url, freshName());
    const other = await openQueue(redis.url, freshName());
    const heard = listen(queue);
    const ending = listen(other, 1);
    await Promise.all([queue.ready(), other.ready()]);
    await redis.kill();
    await queue.push("a");
    const startedAt = Date.now();
    for (let i = 0; i < 100; i++) await queue.push(`artifact_${i}`);
    // 100 times the patience of a push would be 150 s.
    expect(Date.now() - startedAt).toBeLessThan(PATIENCE_MS);
    expect(await settles(ending.stop())).toBe(true);
    expect(await settles(other.close())).toBe(true);
    await redis.restart();
    await eventually(() => new Set(heard.ids).size === 101);
  });

  test("has never been there: opening and pushing work, and the ring arrives when it comes", async () => {
    const gone = await startRedis();
    await gone.kill();
    const queue = await openQueue(gone.url, freshName());
    expect(await settles(queue.push("a"))).toBe(true);
    await expect(queue.ready()).rejects.toThrow("Redis does not answer");
    await gone.restart();
    const heard = listen(queue);
    await heard.until(1);
    await queue.close();
    await gone.stop();
  });

  test("is not at that port at all: closing leaves nothing that keeps a process alive", async () => {
    const url = `redis://127.0.0.1:${await freePort()}`;
    const child = forkWorker(url, freshName(), "end");
    const exited = once(child, "exit");
    expect(await once(child, "message")).toEqual(["closed", undefined]);
    // Nothing but what the driver left could keep it from ending.
    expect(await exited).toEqual([0, null]);
  });
});

describe("a failover", () => {
  /** One address for two servers: connections stay with the one that they were opened to. */
  async function address(): Promise<{ url: string; failOver(): Promise<void> }> {
    const successor = await startRedis();
    cleanups.push(() => successor.stop());
    let target = new URL(redis.url);
    const sockets = new Set<Socket>();
    const server = createServer((client) => {
      const upstream = connect(Number(target.port), target.hostname);
      for (const [from, to] of [
        [client, upstream],
        [upstream, client],
      ] as const) {
        sockets.add(from);
        from.on("error", () => {});
        from.on("close", () => to.destroy());
        from.pipe(to);
      }
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const old = new Redis(redis.url);
    cleanups.push(async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await old.replicaof("NO", "ONE");
      old.disconnect();
    });
    return {
      url: `redis://127.0.0.1:${(server.address() as AddressInfo).port}`,
      async failOver() {
        target = new URL(successor.url);
        await old.replicaof("127.0.0.1", await freePort());
      },
    };
  }

  test("leaves nobody with the old server: rings arrive, and limits are counted together", async () => {
    const { url, failOver } = await address();
    const queue = await openQueue(url, freshName());
    const heard = listen(queue);
    const prefix = freshName();
    const limits = [await openLimit(url, prefix), await openLimit(url, prefix)];
    await queue.push("a");
    await heard.until(1);
    await eventually(() => shared(limits));
    await failOver();
    await queue.push("b");
    await heard.until(2);
    expect(heard.ids).toEqual(["a", "b"]);
    await eventually(() => shared(limits));
  });
});

describe("the limit", () => {
  const rule = { max: 5, windowMs: 60_000 };

  test("allows exactly so many over all replicas, however parallel", async () => {
    const prefix = `${freshName()}:`;
    const replicas = await Promise.all([openLimit(database.url, prefix), openLimit(database.url, prefix)]);
    const takes = await Promise.all(Array.from({ length: 50 }, (_, i) => replicas[i % 2]!.take("key", rule)));
    const allowed = takes.filter((take) => take.allowed);
    expect(allowed.map((take) => take.remaining).sort((x, y) => x - y)).toEqual([0, 1, 2, 3, 4]);
    expect(allowed.filter((take) => take.retryAfterMs !== 0)).toEqual([]);
    const refused = takes.filter((take) => !take.allowed);
    expect(refused.filter((take) => take.remaining !== 0)).toEqual([]);
    expect(refused.filter(({ retryAfterMs }) => retryAfterMs <= 0 || retryAfterMs > 60_000)).toEqual([]);
  });

  async function takeAll(replicas: RateLimit[], key: string, times: number): Promise<number> {
    let allowed = 0;
    for (const replica of replicas) {
      for (let i = 0; i < times; i++) allowed += (await replica.take(key, rule)).allowed ? 1 : 0;
    }
    return allowed;
  }

  test("a window ends to the millisecond it says, and starts with the next use", async () => {
    const limit = await openLimit(database.url);
    const short = { max: 1, windowMs: 150 };
    expect((await limit.take("key", short)).allowed).toBe(true);
    // On a busy machine the window may have ended by now: then the next has begun, with this one in it.
    const { retryAfterMs } = await limit.take("key", short);
    expect(retryAfterMs).toBeLessThanOrEqual(150);
    await sleep(200);
    expect((await limit.take("key", short)).allowed).toBe(true);
  });

  test("0 is no limit, and a narrower rule ends a wider window", async () => {
    const limit = await openLimit(database.url);
    for (let i = 0; i < 20; i++) {
      expect((await limit.take("free", { max: 0, windowMs: 1 })).allowed).toBe(true);
    }
    await limit.take("key", { max: 1, windowMs: 3_600_000 });
    expect((await limit.take("key", { max: 1, windowMs: 1_000 })).retryAfterMs).toBeLessThanOrEqual(1_000);
  });

  test("counts by itself while Redis hangs or is gone, and together again when it is back", async () => {
    const errors: Error[] = [];
    const prefix = `${freshName()}:`;
    const [a, b] = [
      await openLimit(redis.url, prefix, (error) => errors.push(error)),
      await openLimit(redis.url, prefix),
    ];
    await eventually(() => shared([a, b]));
    process.kill(redis.pids[0]!, "SIGSTOP");
    try {
      const startedAt = Date.now();
      expect(await takeAll([a, b], "hung", 8)).toBe(10);
      expect(Date.now() - startedAt).toBeLessThan(PATIENCE_MS);
    } finally {
      process.kill(redis.pids[0]!, "SIGCONT");
    }
    await eventually(() => shared([a, b]));
    await redis.kill();
    expect(await takeAll([a, b], "gone", 8)).toBe(10);
    await redis.restart();
    await eventually(() => shared([a, b]));
    expect(await takeAll([a, b], "back", 8)).toBe(5);
    expect(errors.length).toBeGreaterThanOrEqual(1);
  });

  test("after close it rejects", async () => {
    const limit = await openLimit(database.url);
    await limit.close();
    await limit.close();
    await expect(limit.take("key", rule)).rejects.toThrow("closed");
  });
});
