/**
 * A real Redis for tests: the one on PATH, else Debian's, fetched without root.
 * Keeps nothing on disk, so a restart is a Redis that lost everything; that is what the drivers must live with.
 */

import { once } from "node:events";
import { connect } from "node:net";
import { findOrFetch, type FindOptions, type Programs, type Wanted } from "./debian.ts";
import {
  freePort,
  openWorkspace,
  startWithRetries,
  untilReady,
  type Service,
  type Workspace,
} from "./workspace.ts";

/** One for each test file that runs at the same moment, as in every Redis. */
const DATABASES = 16;

export interface RedisService extends Service {
  readonly url: string;
}

const WANTED: Wanted = {
  name: "redis",
  programs: ["redis-server"],
  packages: ["redis-server"],
  otherwise: "install Redis, or set DOCYARD_TEST_REDIS_URL to a server of your own",
};

/** Starts a Redis without persistence on a free port. */
export async function startRedis(find: FindOptions = {}): Promise<RedisService> {
  const programs = await findOrFetch(WANTED, find);
  return startWithRetries(async () => {
    const workspace = await openWorkspace("redis");
    try {
      return await launch(workspace, programs);
    } catch (error) {
      await workspace.close();
      throw error;
    }
  });
}

async function launch(workspace: Workspace, programs: Programs): Promise<RedisService> {
  const port = await freePort();
  const settings = {
    bind: "127.0.0.1",
    port,
    databases: DATABASES,
    save: "",
    appendonly: "no",
    "maxmemory-policy": "noeviction",
    dir: workspace.dir,
  };
  const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const start = async () => {
    const daemon = await workspace.start(programs.path("redis-server"), args, { env: programs.env });
    await untilReady(daemon, () => ping(port));
    return daemon;
  };

  let daemon = await start();
  return {
    url: `redis://127.0.0.1:${port}`,
    get pids() {
      return [daemon.pid];
    },
    async stop() {
      await daemon.end("SIGTERM");
      await workspace.close();
    },
    kill: () => daemon.end("SIGKILL"),
    async restart() {
      await daemon.end("SIGKILL");
      daemon = await start();
    },
  };
}

async function ping(port: number): Promise<void> {
  const socket = connect(port, "127.0.0.1");
  try {
    socket.setTimeout(2_000, () => socket.destroy(new Error("Redis did not answer PING")));
    socket.write("PING\r\n");
    const [reply] = (await once(socket, "data")) as [Buffer];
    if (!reply.toString().startsWith("+PONG"))
      throw new Error(`Redis answered PING with ${reply.toString()}`);
  } finally {
    socket.destroy();
  }
}
