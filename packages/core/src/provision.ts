/**
 * Provisioning: organisations, docks, machine clients, Studio keys and the server's own keys, made by operators and on
 * the first start. Secrets leave here once, in the return value; the store only ever sees their digests.
 */

import type { ApiKey, Dock, MachineClient, Organization, Scope, ServerKey } from "./access.ts";
import { digestSecret, isDockId, isScope, SCOPES } from "./access.ts";
import { isId } from "./artifact.ts";
import { DocyardError, isDocyardError } from "./errors.ts";
import { requireFilter } from "./filter.ts";
import type { IdSource } from "./id.ts";
import { createIdSource, newSecret } from "./id.ts";
import type { AccountStore } from "./ports.ts";
import type { Quota, RetentionRule } from "./quota.ts";
import type { Sealer } from "./secrets.ts";
import type { RotateOptions, Rotated } from "./server-keys.ts";
import { readServerKeys, rotateServerKeys } from "./server-keys.ts";

/** The dock, and the organisation it belongs to, that the first start makes. */
export const FIRST_DOCK_ID = "dock_default";
export const FIRST_ORGANIZATION_ID = "org_default";

/** Longest name of anything provisioned, in characters. */
const NAME_LENGTH_MAX = 200;
/** Shortest age that a retention rule may name: less is a mistake in the unit. */
const RETENTION_MS_MIN = 60_000;
/** Each is a walk of the dock's list. */
const RETENTION_RULES_MAX = 100;

export interface NewClient {
  readonly name: string;
  /** Bound to this dock; absent: every dock of the organisation. */
  readonly dockId?: string;
  /** Needed when there is no dock to tell it by and more than one organisation. */
  readonly organizationId?: string;
  /** Default: all. */
  readonly scopes?: readonly string[];
}

export interface ClientWithSecret {
  readonly client: MachineClient;
  /** `dys_live_…`, shown once. */
  readonly clientSecret: string;
}

export interface KeyWithSecret {
  readonly key: ApiKey;
  /** `dk_live_…`, shown once. */
  readonly apiKey: string;
}

/** What opens a bucket of a client's own; see the `S3Source` port. */
export interface S3Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
  readonly region?: string;
  /** Of an S3-compatible server other than AWS: an http or https URL. */
  readonly endpoint?: string;
}

export interface FirstRun extends ClientWithSecret, KeyWithSecret {
  readonly organization: Organization;
  readonly dock: Dock;
}

/** Every method rejects with `invalid_argument` for a bad name, id or scope and `not_found` for what does not exist. */
export interface Provisioning {
  createOrganization(name: string): Promise<Organization>;
  /**
   * @param id `dock_…` or any slug; @param organizationId may be left out while there is only one organisation.
   * @throws DocyardError `already_exists`
   */
  createDock(
    id: string,
    options?: { readonly name?: string; readonly organizationId?: string },
  ): Promise<Dock>;
  /** Sets what the dock may hold, from the next change on; `{}` takes every bound away. */
  setQuota(dockId: string, quota: Quota): Promise<Dock>;
  /** Sets what is deleted by age; no rules: nothing. */
  setRetention(dockId: string, rules: readonly RetentionRule[]): Promise<Dock>;
  createClient(input: NewClient): Promise<ClientWithSecret>;
  /** Takes effect at once: tokens of the client stop working with the next request. */
  disableClient(id: string): Promise<MachineClient>;
  /** A new secret; the old one stops at once, tokens already issued go on until they expire. */
  rotateClient(id: string): Promise<ClientWithSecret>;
  createKey(input: { readonly name: string; readonly dockId: string }): Promise<KeyWithSecret>;
  /** Takes effect with the next request. */
  disableKey(id: string): Promise<ApiKey>;
  /** A new key text; the old one stops at once. Its S3 credentials stay. */
  rotateKey(id: string): Promise<KeyWithSecret>;
  /**
   * Attaches credentials for external `s3://` sources to a Studio key, sealed; null takes them away.
   * @throws DocyardError `invalid_argument` for credentials that cannot work.
   */
  setS3Credentials(id: string, credentials: S3Credentials | null, sealer: Sealer): Promise<ApiKey>;
  /**
   * On a store without organisations: makes one with a dock, a client and a key, and returns them with their secrets.
   * Null on a store that is in use, and for all but one of several servers that start at once.
   */
  firstRun(): Promise<FirstRun | null>;
  /**
   * The keys of a purpose that are in force, newest first: the first signs, every one verifies. Makes one where there is
   * none, one for all replicas.
   */
  serverKeys(purpose: ServerKey["purpose"]): Promise<readonly [ServerKey, ...ServerKey[]]>;
  /**
   * Adds a key for each purpose, which signs from now on, and revokes the older ones if it is told to. Running servers
   * follow within `SIGNING_KEYS_AGE_MAX_MS`. May be called by several at once: each adds keys of its own.
   */
  rotateServerKeys(options?: RotateOptions): Promise<Rotated>;
}

export interface ProvisioningOptions {
  /** Milliseconds since 1970 UTC. Default `Date.now`. */
  readonly now?: () => number;
  /** Default: ULIDs from `now` and the platform's randomness. */
  readonly ids?: IdSource;
}

/** Makes and changes what `accounts` of a store holds: usually `createProvisioning(store.accounts)`. */
export function createProvisioning(accounts: AccountStore, options: ProvisioningOptions = {}): Provisioning {
  const { now = Date.now } = options;
  const ids = options.ids ?? createIdSource(now);

  const newOrganization = (name: string, id = ids.ulid("org")): Organization => ({
    kind: "organization",
    id,
    name: checkName(name),
    createdAt: now(),
  });

  const newDock = (id: string, organizationId: string, name = id): Dock => {
    if (!isDockId(id)) {
      throw new DocyardError(
        "invalid_argument",
        "A dock id has 1 to 64 letters, digits, _ or -, and begins with a letter or digit",
      );
    }
    return { kind: "dock", id, organizationId, name: checkName(name), createdAt: now() };
  };

  const newClient = async (
    name: string,
    organizationId: string,
    dockId: string | null,
    scopes: readonly Scope[],
  ): Promise<ClientWithSecret> => {
    const clientSecret = newSecret("dys_live_");
    const client: MachineClient = {
      kind: "client",
      id: ids.ulid("mc"),
      clientId: `dyc_${slug(name)}_${newSecret("").slice(0, 10).toLowerCase()}`,
      secretDigest: await digestSecret(clientSecret),
      name: checkName(name),
      scopes,
      dockId,
      organizationId,
      isActive: true,
      createdAt: now(),
    };
    return { client, clientSecret };
  };

  const newKey = async (name: string, dock: Dock): Promise<KeyWithSecret> => {
    const apiKey = newSecret("dk_live_");
    const key: ApiKey = {
      kind: "key",
      id: ids.ulid("key"),
      secretDigest: await digestSecret(apiKey),
      name: checkName(name),
      dockId: dock.id,
      organizationId: dock.organizationId,
      isActive: true,
      s3Credentials: null,
      createdAt: now(),
    };
    return { key, apiKey };
  };

  const findDock = async (id: string): Promise<Dock> => {
    const dock = isId(id) ? await accounts.find("dock", { id }) : null;
    if (dock === null) throw new DocyardError("not_found", `Dock ${id} not found`);
    return dock;
  };

  const findOrganizationId = async (id: string | undefined): Promise<string> => {
    const all = await accounts.list("organization");
    const found = id === undefined && all.length === 1 ? all[0] : all.find((one) => one.id === id);
    if (found !== undefined) return found.id;
    if (id !== undefined) throw new DocyardError("not_found", `Organization ${id} not found`);
    throw new DocyardError(
      "invalid_argument",
      all.length === 0
        ? "There is no organization yet: create one first"
        : "There are several organizations: name one",
    );
  };

  /** By `mc_…` or by `dyc_…`: operators have either at hand. */
  const findClient = async (id: string): Promise<MachineClient> => {
    const client = isId(id)
      ? ((await accounts.find("client", { id })) ?? (await accounts.find("client", { handle: id })))
      : null;
    if (client === null) throw new DocyardError("not_found", `Client ${id} not found`);
    return client;
  };

  const changeClient = async (id: string, change: Partial<MachineClient>): Promise<MachineClient> => {
    const client = await accounts.update("client", (await findClient(id)).id, change);
    if (client === null) throw new DocyardError("not_found", `Client ${id} not found`);
    return client;
  };

  const changeDock = async (id: string, change: Partial<Dock>): Promise<Dock> => {
    const dock = await accounts.update("dock", (await findDock(id)).id, change);
    if (dock === null) throw new DocyardError("not_found", `Dock ${id} not found`);
    return dock;
  };

  const changeKey = async (id: string, change: Partial<ApiKey>): Promise<ApiKey> => {
    const key = isId(id) ? await accounts.update("key", id, change) : null;
    if (key === null) throw new DocyardError("not_found", `Key ${id} not found`);
    return key;
  };

  return {
    async createOrganization(name) {
      const organization = newOrganization(name);
      await accounts.insert([organization]);
      return organization;
    },

    async createDock(id, { name, organizationId } = {}) {
      const dock = newDock(id, await findOrganizationId(organizationId), name);
      try {
        await accounts.insert([dock]);
      } catch (error) {
        if (isDocyardError(error, "already_exists")) {
          throw new DocyardError("already_exists", `Dock ${id} already exists`);
        }
        throw error;
      }
      return dock;
    },

    async setQuota(dockId, quota) {
      for (const [name, max] of Object.entries(quota)) {
        if (!(Number.isSafeInteger(max) && max >= 0)) {
          throw new DocyardError("invalid_argument", `A quota of ${name} is a whole number of at least 0`);
        }
      }
      return changeDock(dockId, { quota });
    },

    async setRetention(dockId, rules) {
      for (const { afterMs, metadata = {} } of rules) {
        if (!(Number.isSafeInteger(afterMs) && afterMs >= RETENTION_MS_MIN)) {
          throw new DocyardError("invalid_argument", "A retention rule waits for at least a minute");
        }
        requireFilter(metadata);
      }
      if (rules.length > RETENTION_RULES_MAX) {
        throw new DocyardError(
          "invalid_argument",
          `A dock has at most ${RETENTION_RULES_MAX} retention rules`,
        );
      }
      return changeDock(dockId, { retention: rules });
    },

    async createClient({ name, dockId, organizationId, scopes = SCOPES }) {
      const unknown = scopes.filter((scope) => !isScope(scope));
      if (unknown.length > 0 || scopes.length === 0) {
        const fault = scopes.length === 0 ? "A client needs a scope" : `Unknown scope ${unknown.join(" ")}`;
        throw new DocyardError("invalid_argument", `${fault}: choose from ${SCOPES.join(" ")}`);
      }
      const dock = dockId === undefined ? null : await findDock(dockId);
      if (dock !== null && organizationId !== undefined && dock.organizationId !== organizationId) {
        throw new DocyardError("invalid_argument", `Dock ${dock.id} belongs to another organization`);
      }
      const made = await newClient(
        name,
        dock?.organizationId ?? (await findOrganizationId(organizationId)),
        dock?.id ?? null,
        SCOPES.filter((scope) => scopes.includes(scope)),
      );
      await accounts.insert([made.client]);
      return made;
    },

    disableClient: (id) => changeClient(id, { isActive: false }),

    async rotateClient(id) {
      const clientSecret = newSecret("dys_live_");
      const client = await changeClient(id, { secretDigest: await digestSecret(clientSecret) });
      return { client, clientSecret };
    },

    async createKey({ name, dockId }) {
      const made = await newKey(name, await findDock(dockId));
      await accounts.insert([made.key]);
      return made;
    },

    disableKey: (id) => changeKey(id, { isActive: false }),

    async rotateKey(id) {
      const apiKey = newSecret("dk_live_");
      const key = await changeKey(id, { secretDigest: await digestSecret(apiKey) });
      return { key, apiKey };
    },

    async setS3Credentials(id, credentials, sealer) {
      if (credentials === null) return changeKey(id, { s3Credentials: null });
      const fault = s3CredentialsFault(credentials);
      if (fault !== null) throw new DocyardError("invalid_argument", fault);
      return changeKey(id, { s3Credentials: await sealer.seal(JSON.stringify(credentials), id) });
    },

    async firstRun() {
      if ((await accounts.list("organization")).length > 0) return null;
      const organization = newOrganization("Default organization", FIRST_ORGANIZATION_ID);
      const dock = newDock(FIRST_DOCK_ID, organization.id, "Default dock");
      const client = await newClient("first client", organization.id, dock.id, SCOPES);
      const key = await newKey("first key", dock);
      try {
        await accounts.insert([organization, dock, client.client, key.key]);
      } catch (error) {
        // The ids are fixed: of several servers that start at once, one inserts them.
        if (isDocyardError(error, "already_exists")) return null;
        throw error;
      }
      return { organization, dock, ...client, ...key };
    },

    serverKeys: (purpose) => readServerKeys(accounts, purpose, now),
    rotateServerKeys: (options = {}) => rotateServerKeys(accounts, now, options),
  };
}

function s3CredentialsFault({ accessKeyId, secretAccessKey, endpoint }: S3Credentials): string | null {
  if (accessKeyId.trim() === "" || secretAccessKey.trim() === "") {
    return "S3 credentials need an access key id and a secret access key";
  }
  if (endpoint !== undefined && !/^https?:\/\/[^\s@?#]+$/i.test(endpoint)) {
    return "The S3 endpoint must be an http or https URL without credentials, query or fragment";
  }
  return null;
}

function checkName(name: string): string {
  if (
    name.trim().length === 0 ||
    name.length > NAME_LENGTH_MAX ||
    !name.isWellFormed() ||
    /\p{Cc}/u.test(name)
  ) {
    throw new DocyardError(
      "invalid_argument",
      `A name has 1 to ${NAME_LENGTH_MAX} characters and no control characters`,
    );
  }
  return name;
}

/** The readable part of a client id. */
function slug(name: string): string {
  const text = name
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "_")
    .replaceAll(/^_+|_+$/g, "");
  return text.slice(0, 24) || "client";
}
