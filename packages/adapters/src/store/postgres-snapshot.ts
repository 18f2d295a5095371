/**
 * Snapshots of a PostgreSQL database: each a connection of its own, outside the pool, in one long read-only transaction.
 * What is read in them is `sql-dump.ts`.
 */

import { Client } from "pg";
import type { PostgresStoreOptions } from "./postgres-connection.ts";
import { configOf, drive, end, executor, PATIENCE_MS, patiently } from "./postgres-connection.ts";
import type { Snapshot } from "./sql-dump.ts";

export interface Snapshots {
  open(): Promise<Snapshot>;
  /** Closes those that are open. */
  close(): Promise<void>;
}

export function postgresSnapshots(options: PostgresStoreOptions): Snapshots {
  const { prepare = true, patienceMs = PATIENCE_MS } = options;
  const execute = executor(prepare);
  const open = new Set<Snapshot>();

  const begun = async (): Promise<Client> => {
    // Whoever reads may take its time between two pages: it holds up nobody, since it locks no row.
    const client = new Client({ ...configOf(options), idle_in_transaction_session_timeout: 0 });
    // Without a listener a server that goes away would end this process; the next read tells.
    client.on("error", () => {});
    try {
      await client.connect();
      await client.query("begin isolation level repeatable read, read only");
      return client;
    } catch (error) {
      await end(client);
      throw error;
    }
  };

  return {
    async open() {
      const client = await patiently(patienceMs, begun);
      let closing: Promise<void> | null = null;
      const snapshot: Snapshot = {
        async read(operation) {
          const requireOpen = (): void => {
            if (closing !== null) throw new Error("the store is closed");
          };
          requireOpen();
          try {
            // A connection that breaks takes its moment with it: nothing can be tried again.
            return await patiently(0, () => drive(operation(), (query) => execute(client, query)));
          } catch (error) {
            requireOpen();
            throw error;
          }
        },
        close() {
          open.delete(snapshot);
          closing ??= end(client);
          return closing;
        },
      };
      open.add(snapshot);
      return snapshot;
    },
    async close() {
      await Promise.all([...open].map((snapshot) => snapshot.close()));
    },
  };
}
