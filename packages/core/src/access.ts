/**
 * Who may do what where: organisations, docks, machine clients, API keys, and the decision that opens a dock.
 * Pure but for hashing; lookups and handles are in `docyard.ts`.
 */

import { DocyardError } from "./errors.ts";
import type { Quota, RetentionRule } from "./quota.ts";
import { sha256 } from "./sha256.ts";

/** A permission on a credential (contract 2, "Scopes"). */
export const SCOPES = [
  "artifacts:read",
  "artifacts:write",
  "policies:read",
  "recipients:read",
  "audit:read",
] as const;
export type Scope = (typeof SCOPES)[number];

export function isScope(text: string): text is Scope {
  return (SCOPES as readonly string[]).includes(text);
}

export interface Organization {
  readonly kind: "organization";
  /** `org_…` */
  readonly id: string;
  readonly name: string;
  readonly createdAt: number;
}

/** A tenant: owns artifacts, their event log, and dedup. */
export interface Dock {
  readonly kind: "dock";
  /** `dock_…`: letters, digits, `_` and `-`; it is part of storage keys. */
  readonly id: string;
  readonly organizationId: string;
  readonly name: string;
  /** Most that it may hold; absent: not limited. */
  readonly quota?: Quota;
  /** What is deleted by age; absent: nothing. */
  readonly retention?: readonly RetentionRule[];
  readonly createdAt: number;
}

export interface MachineClient {
  readonly kind: "client";
  /** `mc_…` */
  readonly id: string;
  /** `dyc_…`, what the client sends to the token endpoint. */
  readonly clientId: string;
  /** SHA-256 of the secret, hex. Secrets are 32 random bytes, so a plain digest cannot be searched. */
  readonly secretDigest: string;
  readonly name: string;
  readonly scopes: readonly Scope[];
  /** Bound to one dock, or null: every dock of its organisation. */
  readonly dockId: string | null;
  readonly organizationId: string;
  readonly isActive: boolean;
  readonly createdAt: number;
}

/** A Studio key, bound to one dock. */
export interface ApiKey {
  readonly kind: "key";
  /** `key_…` */
  readonly id: string;
  /** SHA-256 of the key, hex: how a presented key is found. */
  readonly secretDigest: string;
  readonly name: string;
  readonly dockId: string;
  readonly organizationId: string;
  readonly isActive: boolean;
  /** S3 credentials for external `s3://` sources (ruling 13), sealed as `secrets.ts` says; null when there are none. */
  readonly s3Credentials: string | null;
  readonly createdAt: number;
}

/**
 * A key of the server itself, shared by all replicas. Of those that are not revoked, the newest of a purpose signs and
 * every one verifies.
 */
export interface ServerKey {
  readonly kind: "serverKey";
  /** The key's name inside what it signs (`kid`). */
  readonly id: string;
  /** `token`: a private JWK for access tokens. `url`: 32 bytes, base64url, for signed URLs of a store that serves itself. */
  readonly purpose: "token" | "url";
  readonly secret: string;
  readonly createdAt: number;
  /** From when on it neither signs nor verifies; absent: it is in force. */
  readonly revokedAt?: number;
}

export type AccountRecord = Organization | Dock | MachineClient | ApiKey | ServerKey;
export type AccountKind = AccountRecord["kind"];
export type AccountOf<K extends AccountKind> = Extract<AccountRecord, { readonly kind: K }>;

/**
 * The second unique name a record can be found by: a client's `clientId`, a key's digest; else its id.
 * Ids and handles are each unique within a kind.
 */
export function handleOf(record: AccountRecord): string {
  switch (record.kind) {
    case "client":
      return record.clientId;
    case "key":
      return record.secretDigest;
    default:
      return record.id;
  }
}

/** A verified caller, however it proved itself. An embedding application may pass its own. */
export interface Principal {
  /** Stable id: rate limits and the event log use it. */
  readonly id: string;
  readonly organizationId: string;
  /** The only dock it may reach, or null: every dock of its organisation. */
  readonly dockId: string | null;
  readonly scopes: readonly Scope[];
}

const DOCK_ID = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/;

/** Whether this may name a dock. Dock ids are parts of storage keys, so the alphabet is narrow. */
export function isDockId(id: string): boolean {
  return DOCK_ID.test(id);
}

/** @throws DocyardError `permission_denied` in the vendor's words (contract 1A). */
export function requireScope(principal: Principal, scope: Scope): void {
  if (!principal.scopes.includes(scope)) {
    throw new DocyardError("permission_denied", `Insufficient scope. Required: ${scope}`);
  }
}

/**
 * The dock part of ruling 5, once scopes are checked: a client bound to a dock gets 403 for any other, existing or
 * not; an organisation-wide one gets 404 for what is missing or another organisation's. `dock` is what the store has
 * under `dockId`.
 * @throws DocyardError `permission_denied` or `not_found`.
 */
export function requireDock(principal: Principal, dockId: string, dock: Dock | null): Dock {
  if (principal.dockId !== null && principal.dockId !== dockId) {
    throw new DocyardError("permission_denied", `Access denied to dock ${dockId}`);
  }
  if (dock === null || dock.organizationId !== principal.organizationId) {
    throw new DocyardError("not_found", `Dock ${dockId} not found`);
  }
  return dock;
}

/** SHA-256 of a secret, hex: the only form in which secrets are stored. */
export function digestSecret(secret: string): Promise<string> {
  return sha256(secret);
}

/** Equal digests, in time that depends on their length only. */
export function digestsEqual(a: string, b: string): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let i = 0; i < a.length; i++) difference |= a.charCodeAt(i) ^ b.charCodeAt(i);
  return difference === 0;
}
