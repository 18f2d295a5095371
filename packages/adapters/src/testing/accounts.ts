/**
 * Who there is in a fresh test double: an organisation with a dock, a client and a key for it, and the server's own keys,
 * all from the seed. Made as records, because provisioning rightly takes its secrets from nowhere but the system.
 */

import type { AccountStore, ApiKey, Dock, IdSource, MachineClient } from "@docyard/core";
import { digestSecret, FIRST_DOCK_ID, FIRST_ORGANIZATION_ID, SCOPES } from "@docyard/core";
import type { SeededRandom } from "./random.ts";

export interface DoubleAccounts {
  readonly dock: Dock;
  /** Of the dock, with every scope. */
  readonly client: MachineClient & { readonly clientSecret: string };
  /** A Studio key of the dock. */
  readonly key: ApiKey & { readonly apiKey: string };
}

export async function addAccounts(
  accounts: AccountStore,
  {
    random,
    ids,
    createdAt,
  }: { readonly random: SeededRandom; readonly ids: IdSource; readonly createdAt: number },
): Promise<DoubleAccounts> {
  const organizationId = FIRST_ORGANIZATION_ID;
  const dockId = FIRST_DOCK_ID;
  const clientSecret = random.text("client secret", "dys_live_");
  const apiKey = random.text("api key", "dk_live_");
  const dock: Dock = { kind: "dock", id: dockId, organizationId, name: "Test dock", createdAt };
  const shared = { dockId, organizationId, isActive: true, createdAt };
  const client: MachineClient = {
    kind: "client",
    id: ids.ulid("mc"),
    clientId: random.text("client id", "dyc_test_client_", 10).toLowerCase(),
    secretDigest: await digestSecret(clientSecret),
    name: "test client",
    scopes: SCOPES,
    ...shared,
  };
  const key: ApiKey = {
    kind: "key",
    id: ids.ulid("key"),
    secretDigest: await digestSecret(apiKey),
    name: "test key",
    s3Credentials: null,
    ...shared,
  };
  await accounts.insert([
    { kind: "organization", id: organizationId, name: "Test organization", createdAt },
    dock,
    client,
    key,
    { kind: "serverKey", id: "token-1", purpose: "token", secret: random.signingJwk("token key"), createdAt },
  ]);
  return { dock, client: { ...client, clientSecret }, key: { ...key, apiKey } };
}
