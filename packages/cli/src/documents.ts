/**
 * The JSON shapes of `--json`, which scripts rely on: accounts with ISO timestamps, and with their secret only where it
 * has just been made. Who prints them, and when, is the commands' affair.
 */

import type {
  ApiKey,
  ClientWithSecret,
  Dock,
  FirstRun,
  JsonObject,
  KeyWithSecret,
  MachineClient,
  Organization,
  Quota,
  ServerKey,
} from "@docyard/core";
import { printDuration } from "./measure.ts";

export interface OrganizationDocument {
  readonly id: string;
  readonly name: string;
  readonly createdAt: string;
}

export interface DockDocument {
  readonly id: string;
  readonly name: string;
  readonly organizationId: string;
  readonly createdAt: string;
  /** Where there is one. */
  readonly quota?: Quota;
  /** Where there are rules; ages as durations, such as `90d`. */
  readonly retention?: readonly { readonly after: string; readonly metadata?: JsonObject }[];
}

export interface ClientDocument {
  readonly id: string;
  readonly clientId: string;
  readonly name: string;
  readonly scopes: readonly string[];
  readonly dockId: string | null;
  readonly organizationId: string;
  readonly isActive: boolean;
  readonly createdAt: string;
}

export interface ClientSecretDocument extends ClientDocument {
  readonly clientSecret: string;
}

export interface KeyDocument {
  readonly id: string;
  readonly name: string;
  readonly dockId: string;
  readonly organizationId: string;
  readonly isActive: boolean;
  readonly createdAt: string;
}

/** Without `isActive`, which a new key always is. */
export interface KeySecretDocument extends Omit<KeyDocument, "isActive"> {
  readonly apiKey: string;
}

export interface SigningKeyDocument {
  readonly id: string;
  readonly signs: "tokens" | "urls";
  /** `signing`: the newest, which verifies as well; `verifying`: an older one; `revoked`: neither. */
  readonly state: "signing" | "verifying" | "revoked";
  readonly createdAt: string;
  /** Of a key that is revoked. */
  readonly revokedAt?: string;
}

export interface FirstRunDocument {
  readonly organization: OrganizationDocument;
  readonly dock: DockDocument;
  readonly client: ClientSecretDocument;
  readonly key: KeySecretDocument;
}

export function organization({ id, name, createdAt }: Organization): OrganizationDocument {
  return { id, name, createdAt: iso(createdAt) };
}

export function dock({ id, name, organizationId, createdAt, quota, retention }: Dock): DockDocument {
  const rules = (retention ?? []).map(({ afterMs, ...rest }) => ({ after: printDuration(afterMs), ...rest }));
  return {
    id,
    name,
    organizationId,
    createdAt: iso(createdAt),
    ...(quota === undefined || Object.keys(quota).length === 0 ? {} : { quota }),
    ...(rules.length === 0 ? {} : { retention: rules }),
  };
}

export function client(from: MachineClient): ClientDocument {
  const { id, clientId, name, scopes, dockId, organizationId, isActive, createdAt } = from;
  return { id, clientId, name, scopes, dockId, organizationId, isActive, createdAt: iso(createdAt) };
}

export function clientWithSecret({ client: from, clientSecret }: ClientWithSecret): ClientSecretDocument {
  const { id, clientId, ...rest } = client(from);
  return { id, clientId, clientSecret, ...rest };
}

export function key({ id, name, dockId, organizationId, isActive, createdAt }: ApiKey): KeyDocument {
  return { id, name, dockId, organizationId, isActive, createdAt: iso(createdAt) };
}

export function keyWithSecret({ key: from, apiKey }: KeyWithSecret): KeySecretDocument {
  const { id, name, dockId, organizationId, createdAt } = key(from);
  return { id, apiKey, name, dockId, organizationId, createdAt };
}

/** @param isNewest of its purpose, of those in force */
export function signingKey(
  { id, purpose, createdAt, revokedAt }: ServerKey,
  isNewest: boolean,
): SigningKeyDocument {
  return {
    id,
    signs: purpose === "token" ? "tokens" : "urls",
    state: revokedAt !== undefined ? "revoked" : isNewest ? "signing" : "verifying",
    createdAt: iso(createdAt),
    ...(revokedAt === undefined ? {} : { revokedAt: iso(revokedAt) }),
  };
}

export function firstRun(made: FirstRun): FirstRunDocument {
  return {
    organization: organization(made.organization),
    dock: dock(made.dock),
    client: clientWithSecret(made),
    key: keyWithSecret(made),
  };
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
