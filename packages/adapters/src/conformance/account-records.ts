/**
 * Plain account records for the store suites, one maker for each kind: numbers make ids, `over` replaces what matters.
 * The cases are in `account-store.ts` and `store-records.ts`.
 */

import type { AccountRecord, ApiKey, Dock, MachineClient, Organization, ServerKey } from "@docyard/core";

export const organization = (number: number, over: Partial<Organization> = {}): Organization => ({
  kind: "organization",
  id: `org_${number}`,
  name: `Organisation ${number}`,
  createdAt: number,
  ...over,
});

export const dock = (number: number, over: Partial<Dock> = {}): Dock => ({
  kind: "dock",
  id: `dock_${number}`,
  organizationId: "org_1",
  name: "Dock",
  createdAt: number,
  ...over,
});

export const client = (number: number, over: Partial<MachineClient> = {}): MachineClient => ({
  kind: "client",
  id: `mc_${number}`,
  clientId: `dyc_${number}`,
  secretDigest: String(number).padStart(64, "0"),
  name: 'Client \u{1f600} "quoted" \u0000',
  scopes: ["artifacts:read", "artifacts:write"],
  dockId: "dock_1",
  organizationId: "org_1",
  isActive: true,
  createdAt: number,
  ...over,
});

export const key = (number: number, over: Partial<ApiKey> = {}): ApiKey => ({
  kind: "key",
  id: `key_${number}`,
  secretDigest: String(number).padStart(64, "0"),
  name: "Key",
  dockId: "dock_1",
  organizationId: "org_1",
  isActive: true,
  s3Credentials: null,
  createdAt: number,
  ...over,
});

export const serverKey = (number: number, over: Partial<ServerKey> = {}): ServerKey => ({
  kind: "serverKey",
  id: `kid_${number}`,
  purpose: "token",
  secret: '{"kty":"OKP"}',
  createdAt: number,
  ...over,
});

/** One of each kind, all with the number 1. */
export const one: readonly AccountRecord[] = [organization(1), dock(1), client(1), key(1), serverKey(1)];
