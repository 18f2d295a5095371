/**
 * docyard's front door: authenticate, open a dock, and get the only handle that can act on it; plus what a host calls
 * from outside: blob admission, the sweep, readiness. The use cases themselves are in `upload.ts`, `studio.ts`,
 * `catalog.ts`, `ingest.ts` and `upkeep.ts`; none of them knows JSON envelopes or status codes.
 */

import type { Dock, MachineClient, Principal, Scope } from "./access.ts";
import {
  digestSecret,
  digestsEqual,
  isDockId,
  isScope,
  requireDock,
  requireScope,
  SCOPES,
} from "./access.ts";
import type { Artifact } from "./artifact.ts";
import { isId } from "./artifact.ts";
import type { Background, BackgroundOptions } from "./background.ts";
import { INGEST_CONCURRENCY, runInBackground } from "./background.ts";
import type { Listed, ListInput } from "./catalog.ts";
import { getArtifact, listArtifacts, removeArtifact } from "./catalog.ts";
import type { Context } from "./context.ts";
import { newEvent, ROUNDS_MAX, shown, signDownload, takeLimit } from "./context.ts";
import { DocyardError } from "./errors.ts";
import type { GarbageOptions, GarbageReport } from "./gc.ts";
import { collectGarbage } from "./gc.ts";
import type { IdSource } from "./id.ts";
import { createIdSource } from "./id.ts";
import type { IngestOptions, IngestOutcome } from "./ingest.ts";
import { ingest } from "./ingest.ts";
import { requireIntake, requireWritable } from "./intake.ts";
import type { PageNumbers } from "./page.ts";
import type { BlobGrant, BlobHost, BlobStore, Queue, RateLimit, Store } from "./ports.ts";
import type { IngestPorts } from "./ports-ingest.ts";
import type { RetentionOptions, RetentionReport } from "./retention.ts";
import { applyRetention } from "./retention.ts";
import type { Settings, SettingsInput } from "./settings.ts";
import { completeSettings } from "./settings.ts";
import type { StudioDock } from "./studio.ts";
import { badApiKey, studioDock } from "./studio.ts";
import type { CompleteInput, Completed, Created, CreateInput } from "./upload.ts";
import { completeUpload, createUpload } from "./upload.ts";
import type { SweepOptions, SweepReport } from "./upkeep.ts";
import { sweep, sweepStaging } from "./upkeep.ts";

export interface DocyardOptions {
  /** Rows and events; whoever opened it closes it, as with all ports. */
  readonly store: Store;
  /** Bytes. */
  readonly blobs: BlobStore;
  /** Tells workers that there is something to do. */
  readonly queue: Queue;
  /** Counts what the settings limit. */
  readonly limit: RateLimit;
  /** Needed to fetch Studio's sources and to read media. Default: none, and `ingest` cannot be called. */
  readonly ingest?: IngestPorts;
  /** Sizes, times and limits. Default `DEFAULT_SETTINGS`, for each that is left out. */
  readonly settings?: SettingsInput;
  /** Milliseconds since 1970 UTC. Default `Date.now`. */
  readonly now?: () => number;
  /** Default: ULIDs from `now` and the platform's randomness. */
  readonly ids?: IdSource;
  /** From 0 up to 1; spreads retries. Default `Math.random`. */
  readonly random?: () => number;
}

export interface ReadableDock {
  readonly dock: Dock;
  /**
   * One page, newest first.
   * @throws DocyardError `resource_exhausted` over the list limit; `invalid_argument` for bad paging.
   */
  list(input: ListInput): Promise<{ readonly items: readonly Listed[]; readonly page: PageNumbers }>;
  /** @throws DocyardError `not_found` for what is missing, deleted, or another dock's. */
  get(id: string): Promise<Listed<Artifact>>;
}

export interface WritableDock {
  readonly dock: Dock;
  /**
   * Registers an artifact, or finds the completed one with the declared hash (ruling 1).
   * @throws DocyardError `invalid_argument` with one issue per fault; `too_large`; `quota_exceeded`; `read_only` or
   *   `no_space`.
   */
  create(input: CreateInput): Promise<Created>;
  /**
   * Publishes what was uploaded, once it is verified and durable; harmless to repeat (ruling 2). An artifact that comes
   * back as `upload_started` is still being verified in the background.
   * @throws DocyardError `not_found`; `invalid_argument` if `storageKey` is not this upload's; `failed_precondition`
   *   while there are no bytes, or after the window; `integrity_mismatch` if they differ from what was declared: they
   *   are dropped then, and the client may PUT again; `quota_exceeded` while their real size is too much for the dock;
   *   `read_only`.
   */
  complete(input: CompleteInput): Promise<Completed>;
  /** Deletes: gone from every list at once, its bytes after the grace period. @throws DocyardError `not_found`; `read_only`. */
  remove(id: string): Promise<void>;
}

/** What each scope opens. */
export interface DockFor {
  readonly "artifacts:read": ReadableDock;
  readonly "artifacts:write": WritableDock;
}

export interface Docyard {
  readonly settings: Settings;
  /**
   * The client behind these credentials, with the scopes it asked for (all of its own by default).
   * @throws DocyardError `unauthenticated` for bad credentials; `permission_denied` when deactivated;
   *   `invalid_argument` for a scope it does not have (contract 27); `resource_exhausted`.
   */
  authenticate(credentials: {
    readonly clientId: string;
    readonly clientSecret: string;
    readonly scopes?: readonly string[];
  }): Promise<Principal>;
  /**
   * The principal of a client that proved itself earlier, as it is now: deactivation and narrowed scopes take effect
   * at once, not when a token expires.
   * @throws DocyardError `unauthenticated` when the client is gone or deactivated.
   */
  principal(machineClientId: string, scopes: readonly string[]): Promise<Principal>;
  /**
   * The only way to a dock: the handle that comes back can do what the scope allows, and nothing else can (ruling 5:
   * scope, then dock, before any body is looked at).
   * @throws DocyardError `permission_denied` or `not_found`.
   */
  open<S extends keyof DockFor>(principal: Principal, dockId: string, scope: S): Promise<DockFor[S]>;
  /**
   * What an API key opens: the Studio face of its dock. Takes one of the key's requests.
   * @throws DocyardError `unauthenticated`; `resource_exhausted`.
   */
  openStudio(apiKey: string): Promise<StudioDock>;
  /**
   * Serves one ring of the queue: gets, proves and publishes the bytes of an artifact that waits for a worker. Safe to
   * call for any id, anywhere, twice.
   */
  ingest(id: string, options?: IngestOptions): Promise<IngestOutcome>;
  /** What a blob store that serves itself asks while it does: admission, and reports of corruption. */
  readonly blobHost: BlobHost;
  /** Does what is due: expires abandoned uploads, removes dead bytes. Safe to run at any time, anywhere, twice. */
  sweep(options?: SweepOptions): Promise<SweepReport>;
  /** Removes staged bytes that no upload can want any more. Lists all staged keys: once an hour is plenty. */
  sweepStaging(options?: { readonly signal?: AbortSignal }): Promise<number>;
  /** Finds, and unless it is a dry run removes, final bytes that no artifact wants. Looks at every blob. */
  collectGarbage(options?: GarbageOptions): Promise<GarbageReport>;
  /** Counts, and unless it is a dry run deletes, what the docks' retention rules say is too old. Once an hour is plenty. */
  applyRetention(options?: RetentionOptions): Promise<RetentionReport>;
  /**
   * Does all of that from now on, and answers the queue's rings, until it is stopped: what a server does besides
   * answering requests. One process at least must; all of them may.
   * @throws TypeError for intervals that are none, and for a concurrency where there are no ingest ports.
   */
  runInBackground(options?: BackgroundOptions): Background;
  /** Resolves when store, blobs and queue can work; rejects with the first reason why not. */
  ready(): Promise<void>;
}

/** Wires the use cases to their ports. Nothing runs by itself: a host calls `runInBackground`. */
export function createDocyard(options: DocyardOptions): Docyard {
  const { store, blobs, queue, limit, now = Date.now } = options;
  const { artifacts, accounts } = store;
  const context: Context = {
    artifacts,
    accounts,
    blobs,
    queue,
    limit,
    settings: completeSettings(options.settings),
    ids: options.ids ?? createIdSource(now),
    random: options.random ?? Math.random,
    now,
  };

  const docyard: Docyard = {
    settings: context.settings,

    async authenticate({ clientId, clientSecret, scopes }) {
      const client = isId(clientId) ? await accounts.find("client", { handle: clientId }) : null;
      const presented = await digestSecret(clientSecret);
      // The comparison happens for unknown clients too, so that time does not tell them from known ones.
      const matches = digestsEqual(presented, client?.secretDigest ?? "0".repeat(64));
      if (client === null || !matches) {
        throw new DocyardError("unauthenticated", "Invalid client credentials");
      }
      if (!client.isActive) throw new DocyardError("permission_denied", "Client is deactivated");
      const refused = scopes?.filter((scope) => !isScope(scope) || !client.scopes.includes(scope)) ?? [];
      if (refused.length > 0) {
        throw new DocyardError("invalid_argument", `Invalid scope: ${shown(refused.join(" "))}`);
      }
      await takeLimit(context, "token", client.id);
      return principalOf(client, scopes === undefined || scopes.length === 0 ? client.scopes : scopes);
    },

    async principal(machineClientId, scopes) {
      const client = isId(machineClientId) ? await accounts.find("client", { id: machineClientId }) : null;
      if (client === null || !client.isActive) {
        throw new DocyardError("unauthenticated", "Invalid or expired token");
      }
      return principalOf(client, scopes);
    },

    async open<S extends keyof DockFor>(principal: Principal, dockId: string, scope: S): Promise<DockFor[S]> {
      requireScope(principal, scope);
      // A foreign dock is refused before it is looked up: nothing leaks, not even by time.
      const reachable = isDockId(dockId) && (principal.dockId === null || principal.dockId === dockId);
      const dock = requireDock(
        principal,
        dockId,
        reachable ? await accounts.find("dock", { id: dockId }) : null,
      );
      const handles: { readonly [K in keyof DockFor]: DockFor[K] } = {
        "artifacts:read": {
          dock,
          async list(input) {
            await takeLimit(context, "list", principal.id);
            return listArtifacts(context, dock, "machine", principal, input);
          },
          async get(id) {
            const artifact = await getArtifact(context, dock, "machine", id);
            return { artifact, download: await signDownload(context, artifact, principal) };
          },
        },
        "artifacts:write": {
          dock,
          create: (input) => createUpload(context, dock, principal, input),
          complete: (input) => completeUpload(context, dock, principal, input),
          async remove(id) {
            requireWritable(context);
            await removeArtifact(context, dock, "machine", principal, id);
          },
        },
      };
      return handles[scope];
    },

    async openStudio(apiKey) {
      const key = await accounts.find("key", { handle: await digestSecret(apiKey) });
      if (key === null || !key.isActive) throw badApiKey();
      await takeLimit(context, "studio", key.id);
      await takeLimit(context, "studioDaily", key.id);
      const [dock, organization] = await Promise.all([
        accounts.find("dock", { id: key.dockId }),
        accounts.find("organization", { id: key.organizationId }),
      ]);
      if (dock === null || organization === null) throw badApiKey();
      const principal = { id: key.id, organizationId: organization.id, dockId: dock.id, scopes: SCOPES };
      return studioDock(context, principal, { dock, organization, key });
    },

    async ingest(id, ingestOptions) {
      if (options.ingest === undefined) throw noIngestPorts();
      return ingest(context, options.ingest, id, ingestOptions);
    },

    blobHost: {
      admit: (grant, bytes) => admit(context, grant, bytes),
      corrupt: (grant, reason) => reportCorruption(context, grant, reason),
    },

    sweep: (sweepOptions) => sweep(context, sweepOptions),
    sweepStaging: (sweepOptions) => sweepStaging(context, sweepOptions),
    collectGarbage: (garbageOptions) => collectGarbage(context, garbageOptions),
    applyRetention: (retentionOptions) => applyRetention(context, retentionOptions),

    runInBackground(backgroundOptions = {}) {
      const canIngest = options.ingest !== undefined;
      const { concurrency = canIngest ? INGEST_CONCURRENCY : 0 } = backgroundOptions;
      if (concurrency > 0 && !canIngest) throw noIngestPorts();
      return runInBackground(docyard, queue, { ...backgroundOptions, concurrency });
    },

    async ready() {
      await Promise.all([store.ready(), blobs.ready(), queue.ready()]);
    },
  };
  return docyard;
}

function noIngestPorts(): TypeError {
  return new TypeError("createDocyard was given no ingest ports: hand them in as `ingest`");
}

/** See `BlobHost.admit`: what a signature alone cannot know. */
async function admit(context: Context, grant: BlobGrant, bytes = 0): Promise<void> {
  if (grant.method === "PUT") await requireIntake(context, bytes);
  // A presigned Studio upload has no row yet: its signature and its window are all there is to know.
  if (grant.artifactId.startsWith("temp_") && grant.method === "PUT") return;
  const status = await context.artifacts.status(grant.artifactId);
  if (status === null || status === "deleted") {
    throw new DocyardError("not_found", "This artifact has been deleted");
  }
  if (grant.method === "PUT") {
    if (status !== "created") {
      throw new DocyardError("failed_precondition", "This upload is already complete or has ended");
    }
  } else if (grant.method === "GET" && grant.principalId !== null) {
    await takeLimit(context, "download", grant.principalId);
  }
}

async function reportCorruption(context: Context, grant: BlobGrant, reason: string): Promise<void> {
  // Another change may come between the read and the guarded write; the report must not be lost for that.
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const artifact = await context.artifacts.get({ id: grant.artifactId });
    if (artifact === null) return;
    const logged = await context.artifacts.update(
      artifact.id,
      artifact.version,
      {},
      newEvent(context, "artifact.corrupt", grant.principalId, { key: grant.key, reason }),
    );
    if (logged !== null) return;
  }
}

function principalOf(client: MachineClient, scopes: readonly string[]): Principal {
  // For every request, and of a list that is frozen: V8 compiles no `filter` of those.
  const granted: Scope[] = [];
  for (const scope of client.scopes) if (scopes.includes(scope)) granted.push(scope);
  return { id: client.id, organizationId: client.organizationId, dockId: client.dockId, scopes: granted };
}
