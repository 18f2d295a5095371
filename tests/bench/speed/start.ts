/** Starts and rests of the program: time to its first 200 on an empty and a used folder, and memory when idle. */

import { readFile } from "node:fs/promises";
import { connect } from "node:net";
import { type Server, start, startServer, tempFolder } from "../../e2e/program.ts";
import { freePort } from "../../services/workspace.ts";

const POLL_MS = 2;
const IDLE_MS = 3_000;

/** Milliseconds from spawning the program to a 200 of /v1/healthz. */
export async function coldStart(cwd: string): Promise<number> {
  const port = await freePort();
  const from = performance.now();
  const child = start(["--port", String(port), "--log-level", "error"], { cwd });
  child.stdout!.resume();
  child.stderr!.resume();
  while (!(await healthy(port))) await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  const took = performance.now() - from;
  child.kill("SIGTERM");
  await new Promise((resolve) => child.once("exit", resolve));
  return took;
}

/** By hand: a client library would cost the first request more than the server. */
function healthy(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => {
      socket.write("GET /v1/healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    });
    socket.once("data", (bytes) => {
      resolve(bytes.toString().startsWith("HTTP/1.1 200"));
      socket.destroy();
    });
    socket.once("error", () => resolve(false));
    socket.once("close", () => resolve(false));
  });
}

/** Bytes of memory of a server that has answered once and then nothing. */
export async function idleMemory(): Promise<number> {
  const folder = await tempFolder();
  const server: Server = await startServer([], { cwd: folder.path });
  await fetch(`${server.url}/v1/healthz`);
  await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
  const bytes = await server.memory();
  await server.stop();
  await folder.remove();
  return bytes;
}

/** Most bytes of memory that a process has held. */
export async function peakMemory(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)![1]) * 1024;
}
