/**
 * Whether anything may be written now: a server that is read-only takes nothing, and neither does a storage that is
 * nearly full. Reads go on in both cases. What one dock may hold is `quota.ts`.
 */

import type { Context } from "./context.ts";
import { DocyardError } from "./errors.ts";

/** @throws DocyardError `read_only` */
export function requireWritable({ settings }: Context): void {
  if (settings.readOnly) {
    throw new DocyardError("read_only", "The server is read-only for now: reading goes on, writing does not");
  }
}

/**
 * Before so many more bytes are asked for or taken.
 * @throws DocyardError `no_space` if they would leave less than `settings.freeMin`
 */
export async function requireRoom({ blobs, settings }: Context, bytes: number): Promise<void> {
  if (settings.freeMin === 0 || blobs.space === undefined) return;
  if ((await blobs.space()) - bytes < settings.freeMin) {
    throw new DocyardError("no_space", "The storage is nearly full: reading goes on, uploads do not");
  }
}

/** Before anything new is begun. @throws DocyardError `read_only` or `no_space` */
export async function requireIntake(context: Context, bytes: number): Promise<void> {
  requireWritable(context);
  await requireRoom(context, bytes);
}
