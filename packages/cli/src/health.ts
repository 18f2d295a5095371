/**
 * `docyard-server health`: asks the server of this machine whether it is ready, for health checks where there is no
 * other program to ask with. What ready means is the server's to say.
 */

import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { isEveryAddress } from "./address.ts";
import type { Answer } from "./command.ts";
import type { Config } from "./config.ts";
import { EXIT_FAILURE, reasonOf } from "./failure.ts";

/** Milliseconds; a server that takes longer is not ready. */
const PATIENCE_MS = 10_000;

/** Sets the exit code to 1 unless the server says that it is ready. */
export async function health({ host, port, tlsCert }: Config): Promise<Answer> {
  const hostname = isEveryAddress(host) ? "127.0.0.1" : host;
  const send = tlsCert === "" ? httpRequest : httpsRequest;
  const { promise, resolve } = Promise.withResolvers<string>();
  // The certificate is for the name that clients use; this one never leaves the machine.
  const options = { hostname, port, path: "/v1/readyz", agent: false, rejectUnauthorized: false };
  const request = send(options, (response) => {
    response.resume();
    resolve(response.statusCode === 200 ? "ready" : `not ready (${response.statusCode})`);
  });
  const timer = setTimeout(() => request.destroy(new Error("no answer in time")), PATIENCE_MS);
  request.on("error", (error) => resolve(reasonOf(error)));
  request.end();
  const status = await promise;
  clearTimeout(timer);
  if (status !== "ready") process.exitCode = EXIT_FAILURE;
  return { document: { status }, text: `${status}\n` };
}
