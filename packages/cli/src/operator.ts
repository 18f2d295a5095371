/**
 * What the commands that look at everything have in common: rows, bytes and core without a server around them, a signal
 * that stops them politely, and how far they are. What each of them does is in its own file.
 */

import type { BlobStore, Dock, Docyard, Principal, Store } from "@docyard/core";
import { DocyardError, isDockId, SCOPES } from "@docyard/core";
import type { Answer, Said } from "./command.ts";
import type { Config } from "./config.ts";
import { Interrupted, UsageError } from "./failure.ts";
import { onStopSignal, STOP_SIGNALS } from "./signals.ts";
import { blobScheme, schemeOf } from "./targets.ts";
import { wireOperator } from "./wire.ts";

export interface Operation {
  readonly docyard: Docyard;
  readonly store: Store;
  readonly blobs: BlobStore;
  readonly config: Config;
  readonly said: Said;
  /** Aborts when the operator asks to stop. */
  readonly signal: AbortSignal;
}

/** Named in the log of whatever an operator does. */
export const OPERATOR_ID = "operator";

/**
 * Opens everything, works, and closes it again.
 * @param howToGoOn told to the operator who interrupts
 * @throws Interrupted
 */
export async function operate(
  said: Said,
  config: Config,
  work: (operation: Operation) => Promise<Answer>,
  howToGoOn: string,
): Promise<Answer> {
  if (schemeOf(config.db) === "memory" || blobScheme(config.blob) === "memory") {
    throw new UsageError("memory lives inside one server process: no other command can reach it");
  }
  const stopping = new AbortController();
  const { signal } = stopping;
  const stopListening = onStopSignal(STOP_SIGNALS, () => stopping.abort(new Error("interrupted")));
  try {
    const { close, ...parts } = await wireOperator(config);
    try {
      return await work({ ...parts, config, said, signal });
    } finally {
      await close();
    }
  } catch (error) {
    if (signal.aborted) throw new Interrupted(`interrupted: ${howToGoOn}`, { cause: error });
    throw error;
  } finally {
    stopListening();
  }
}

/** @throws DocyardError `not_found` */
export async function dockNamed({ store }: Pick<Operation, "store">, id: string): Promise<Dock> {
  const dock = isDockId(id) ? await store.accounts.find("dock", { id }) : null;
  if (dock === null) throw new DocyardError("not_found", `Dock ${id.slice(0, 64)} not found`);
  return dock;
}

/** Whoever runs commands may do everything, and is named for it. */
export function operatorOf(dock: Dock): Principal {
  return { id: OPERATOR_ID, organizationId: dock.organizationId, dockId: dock.id, scopes: SCOPES };
}

/** How many artifacts there are that are completed, about, as a total to be on the way to. */
export async function completedTotal({ store }: Pick<Operation, "store">): Promise<number> {
  let total = 0;
  for (const { id } of await store.accounts.list("dock")) {
    const { artifacts, open } = await store.artifacts.usage(id);
    total += artifacts - open;
  }
  return total;
}
