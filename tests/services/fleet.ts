/**
 * Several server processes behind one address, as an operator runs replicas: started, killed, restarted one by one.
 * The balancer moves bytes and avoids who is out of it; what the servers keep their things in is the caller's to name.
 */

import { once } from "node:events";
import { createServer, connect, type Server as NetServer, type Socket } from "node:net";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { type RunOptions, type Server, startServer, tempFolder } from "../e2e/program.ts";
import { NODE_ARGS } from "../sources.ts";

export const REPLICA: Pick<RunOptions, "bin" | "nodeArgs"> = {
  bin: join(import.meta.dirname, "replica.ts"),
  nodeArgs: NODE_ARGS,
};

export interface FleetOptions {
  readonly replicas: number;
  /** `--db`, `--blob`, `--queue` and the like. */
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

export interface Fleet {
  /** The balancer's, which every replica takes for its own. */
  readonly url: string;
  readonly folder: string;
  /** The address of one replica, past the balancer. */
  urlOf(index: number): string;
  /** All that a replica has logged since it was last started. */
  logOf(index: number): string;
  kill(index: number): Promise<void>;
  start(index: number): Promise<void>;
  /** Takes it out of the balancer, lets it finish, and puts a new one in its place: one step of a rolling restart. */
  roll(index: number): Promise<void>;
  close(): Promise<void>;
}

export async function startFleet({ replicas, args, env = {} }: FleetOptions): Promise<Fleet> {
  const folder = await tempFolder();
  const servers: (Server | null)[] = Array.from({ length: replicas }, () => null);
  const balancer = await startBalancer(() =>
    servers.flatMap((server) => (server === null ? [] : [server.port])),
  );
  const url = `http://127.0.0.1:${balancer.port}`;

  const start = async (index: number): Promise<void> => {
    const own = ["--public-url", url, "--key-file", join(folder.path, "docyard.key"), ...args];
    servers[index] = await startServer(own, { ...REPLICA, cwd: folder.path, env });
  };
  const fleet: Fleet = {
    url,
    folder: folder.path,
    urlOf: (index) => `http://127.0.0.1:${servers[index]!.port}`,
    logOf: (index) => servers[index]?.log() ?? "",
    async kill(index) {
      const server = servers[index]!;
      // Stays in the balancer, which has to find out by itself.
      await server.kill();
    },
    start,
    async roll(index) {
      const server = servers[index]!;
      servers[index] = null;
      const { code } = await server.stop();
      if (code !== 0) throw new Error(`a replica ended with ${code}: ${server.log()}`);
      await start(index);
    },
    async close() {
      await balancer.close();
      for (const server of servers) await server?.stop();
      await folder.remove();
    },
  };
  try {
    // All at once: that is how they are started, and on an empty store.
    await Promise.all(servers.map((_, index) => start(index)));
    return fleet;
  } catch (error) {
    await fleet.close();
    throw error;
  }
}

interface Balancer {
  readonly port: number;
  close(): Promise<void>;
}

/** Hands each connection to the next of these ports, and to another one when nobody listens there. */
async function startBalancer(ports: () => readonly number[]): Promise<Balancer> {
  let turn = 0;
  const sockets = new Set<Socket>();
  const track = (socket: Socket): Socket => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    // One side that breaks takes the other with it; there is nobody to tell.
    return socket.on("error", () => {});
  };
  const server: NetServer = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) => {
    track(client);
    const [...left] = ports();
    turn++;
    const tryNext = (): void => {
      const [port] = left.splice(turn % Math.max(1, left.length), 1);
      if (port === undefined) {
        client.destroy();
        return;
      }
      const upstream = track(connect({ port, host: "127.0.0.1", allowHalfOpen: true }));
      upstream.once("error", tryNext);
      upstream.once("connect", () => {
        upstream.off("error", tryNext);
        client.pipe(upstream);
        upstream.pipe(client);
        // What has been said is still handed on.
        upstream.once("close", (isBroken) => (isBroken ? client.destroy() : client.destroySoon()));
        client.once("close", () => upstream.destroy());
      });
    };
    tryNext();
  });
  server.listen({ port: 0, host: "127.0.0.1" });
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    async close() {
      const closed = once(server, "close");
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}
