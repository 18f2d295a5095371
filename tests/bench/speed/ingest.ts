/**
 * Background ingestion, end to end: small texts from an origin on this machine, asked for through the Studio face on
 * several connections, until the last of them is completed.
 */

import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { randomBytes } from "node:crypto";
import { startServer, tempFolder } from "../../e2e/program.ts";
import { processorUs } from "../scaling/host.ts";
import { CONNECTIONS } from "./workloads.ts";
import { openConnection } from "./connection.ts";

const BYTES = 10 * 1024;
const POLL_MS = 20;

export interface Ingested {
  /** Artifacts a second, from the first create to the last completion. */
  readonly rate: number;
  /** Microseconds of the server's processor time for each, worker included. */
  readonly cpuUs: number;
}

/** @param count artifacts; each has content of its own */
export async function ingestFromUrl(count: number): Promise<Ingested> {
  const text = randomBytes(BYTES / 2).toString("hex");
  const origin = createServer(({ url = "" }, outgoing) => {
    const body = url + text.slice(url.length);
    outgoing.writeHead(200, { "Content-Type": "text/plain", "Content-Length": body.length }).end(body);
  });
  await new Promise<void>((resolve) => {
    origin.listen(0, "127.0.0.1", resolve);
  });
  const folder = await tempFolder();
  const limits = ["--limit-studio", "0", "--limit-studio-daily", "0"];
  const server = await startServer([...limits, "--allow-source", "127.0.0.0/8", "--log-level", "error"], {
    cwd: folder.path,
  });
  try {
    const key = `Authorization: Bearer ${server.firstRun!.key.apiKey}\r\n`;
    const source = `http://127.0.0.1:${(origin.address() as AddressInfo).port}`;
    const open = await Promise.all(Array.from({ length: CONNECTIONS }, () => openConnection(server.url)));
    const before = await processorUs(server.pid);
    const from = performance.now();
    let asked = 0;
    await Promise.all(
      open.map(async (connection) => {
        while (asked < count) {
          const body = { name: `text ${asked}`, type: "script", url: `${source}/${asked++}.txt` };
          const json = `${key}Content-Type: application/json\r\n`;
          await connection.json("POST /api/v1/artifacts/create", json, body);
        }
      }),
    );
    const completed = async (): Promise<number> => {
      const head = "GET /api/v1/artifacts?status=upload_completed&limit=1";
      return (await open[0]!.json<{ meta: { total: number } }>(head, key)).meta.total;
    };
    while ((await completed()) < count) {
      await new Promise((resolve) => {
        setTimeout(resolve, POLL_MS);
      });
    }
    const seconds = (performance.now() - from) / 1_000;
    const cpu = (await processorUs(server.pid)) - before;
    for (const connection of open) connection.close();
    return { rate: count / seconds, cpuUs: cpu / count };
  } finally {
    await server.stop();
    await folder.remove();
    origin.close();
  }
}
