/** The same harness behind `@hono/node-server` on a loopback socket, where requests take Node's fast paths. */

import type { AddressInfo } from "node:net";
import { serve } from "@hono/node-server";
import type { Harness, HarnessOptions } from "./harness.ts";
import { openHarness } from "./harness.ts";

export interface NodeHarness extends Harness {
  readonly port: number;
}

export async function openNodeHarness(options: HarnessOptions = {}): Promise<NodeHarness> {
  let port = 0;
  const harness = await openHarness({ ...options, publicUrl: () => `http://127.0.0.1:${port}` });
  const server = serve({ fetch: harness.app.fetch, hostname: "127.0.0.1", port: 0 });
  await new Promise<void>((resolve) => server.once("listening", resolve));
  port = (server.address() as AddressInfo).port;
  return {
    ...harness,
    port,
    async fetch(pathOrUrl, init) {
      const response = await fetch(
        pathOrUrl.startsWith("/") ? `http://127.0.0.1:${port}${pathOrUrl}` : pathOrUrl,
        init,
      );
      // To the client it was a 500, which says nothing.
      if (harness.violations.length > 0) throw new Error(harness.violations[0]);
      return response;
    },
    async close() {
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
        if ("closeAllConnections" in server) server.closeAllConnections();
      });
      await harness.close();
    },
  };
}
