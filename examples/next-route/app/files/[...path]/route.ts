/** All of docyard below `/files`, as one route handler of Next's App Router. */

import { files } from "../../../lib/docyard.ts";

/** Node, for SQLite and the disk; and no answer is ever another request's. */
export const runtime = "nodejs";
export const dynamic = "force-dynamic";

async function handle(request: Request): Promise<Response> {
  return (await files()).fetch(request);
}

export { handle as DELETE, handle as GET, handle as OPTIONS, handle as POST, handle as PUT };
