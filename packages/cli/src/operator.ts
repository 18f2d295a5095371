/**
 * What the commands that look at everything have in common: rows, bytes and core without a server around them, a signal
 * that stops them politely, and how far they are. What each of them does is in its own file.
 */

import type { BlobStore, Dock, Docyard, Principal, Store } from "@docyard/core";
import { DocyardError, isDockId, SCOPES } from "@docyard/core";
import type { Answer, Said } from "./command.ts";
import type { Config } from "./config.ts";
import { EXIT_INTERRUPTED, Interrupted, SAME_SIGNAL_MS, UsageError } from "./failure.ts";
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
  const stop = stopper();
  try {
    const { close, ...parts } = await wireOperator(config);
    try {
      return await work({ ...parts, config, said, signal: stop.signal });
    } finally {
      await close();
    }
  } catch (error) {
    if (stop.signal.aborted) throw new Interrupted(`interrupted: ${howToGoOn}`, { cause: error });
    throw error;
  } finally {
    stop.end();
  }
}

/** The first signal asks to stop, one after that ends the process on the spot. */
function stopper(): { readonly signal: AbortSignal; end(): void } {
  const controller = new AbortController();
  let firstAt: number | null = null;
  const onSignal = (): void => {
    firstAt ??= performance.now();
    controller.abort(new Error("interrupted"));
    if (performance.now() - firstAt > SAME_SIGNAL_MS) process.exit(EXIT_INTERRUPTED);
  };
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const name of signals) process.on(name, onSignal);
  return {
    signal: controller.signal,
    end: () => {
      for (const name of signals) process.off(name, onSignal);
    },
  };
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
