/**
 * A store's own service for its signed URLs, on both transports.
 * A server mounts it below the public URL; what it does is in `serve.ts`.
 */

import type { BlobService } from "@docyard/core";
import { serveFetch } from "./serve-fetch.ts";
import { serveNode } from "./serve-node.ts";
import type { ServiceContext } from "./serve.ts";
import { BLOB_PATH } from "./signed-url.ts";

export function createBlobService(context: ServiceContext): Required<BlobService> {
  return {
    path: BLOB_PATH,
    fetch: (request, host) => serveFetch(context, request, host),
    node: (exchange, host) => serveNode(context, exchange, host),
  };
}
