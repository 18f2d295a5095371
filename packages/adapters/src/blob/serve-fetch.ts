/**
 * Redeems signed URLs over web-standard `Request` and `Response`, for every host.
 * What is answered is decided in `serve.ts`; here is only how it travels.
 */

import type { BlobHost } from "@docyard/core";
import { PREFLIGHT_HEADERS } from "./http.ts";
import type { Piece, ServiceContext } from "./serve.ts";
import { acceptUpload, isPut, openDownload, stopper } from "./serve.ts";

export async function serveFetch(
  context: ServiceContext,
  request: Request,
  host: BlobHost,
): Promise<Response> {
  if (request.method === "OPTIONS") return new Response(null, { status: 204, headers: PREFLIGHT_HEADERS });
  // An Authorization header beside the signature is ignored (lesson R-10).
  const ticket = await context.urls.redeem(request.method, request.url);
  const header = (name: string): string | undefined => request.headers.get(name) ?? undefined;
  if (isPut(ticket)) {
    const body = request.body ?? new ReadableStream<Uint8Array>({ start: (c) => c.close() });
    const stop = stopper(context);
    try {
      const headers = await acceptUpload(context, ticket, host, {
        header,
        // A stream of the caller's may hand out what it goes on to use.
        memory: "shared",
        signal: stop.signal,
        // Not cancelled on refusal: a host on a socket could no longer answer on it.
        body: stop.watch(body.values({ preventCancel: true })),
      });
      return new Response(null, { status: 200, headers });
    } finally {
      stop.end();
    }
  }
  const download = await openDownload(context, ticket, host, {
    header,
    signal: context.closing,
  });
  const { status, headers } = download.answer;
  return new Response(download.pieces === null ? null : streamOf(download.pieces), { status, headers });
}

/** A web stream over pieces; copies each, because a consumer of web streams may keep what it read. */
function streamOf(pieces: AsyncGenerator<Piece, void, void>): ReadableStream<Uint8Array<ArrayBuffer>> {
  return new ReadableStream(
    {
      async pull(controller) {
        const next = await pieces.next();
        if (next.done === true) {
          controller.close();
          return;
        }
        controller.enqueue(new Uint8Array(next.value.bytes));
        next.value.release();
      },
      async cancel() {
        await pieces.return();
      },
    },
    { highWaterMark: 0 },
  );
}
