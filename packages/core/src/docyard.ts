/**
 * The use cases: authenticate, open a dock, create, complete, list, get, remove, and the sweep that does whatever is due.
 * Decides everything and touches the world only through the ports; knows neither JSON envelopes nor status codes.
 */

import type { MachineClient, Principal, Scope } from "./access.ts";
import { digestSecret, digestsEqual, isScope, requireDock, requireScope } from "./access.ts";
import type { Dock } from "./access.ts";
import type { Artifact, ArtifactChange, ArtifactStatus, EventType, NewEvent } from "./artifact.ts";
import { filenameFault, nextStatus, parseDigest } from "./artifact.ts";
import { DocyardError, isDocyardError } from "./errors.ts";
import type { Filter } from "./filter.ts";
import { metadataFault } from "./filter.ts";
import type { IdSource } from "./id.ts";
import { createIdSource } from "./id.ts";
import type { JsonObject } from "./json.ts";
import type { PageNumbers, PageStart } from "./page.ts";
import { clampLimit, decodeCursor, PAGE_LIMIT_DEFAULT, pageNumbers } from "./page.ts";
import type {
  BlobGrant,
  BlobHost,
  BlobStore,
  FindQuery,
  LimitRule,
  Queue,
  RateLimit,
  SignedUrl,
  Store,
} from "./ports.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

export interface Settings {
  /** Largest artifact in bytes, declared or real (ruling 4). Default 5 GiB, the single-PUT limit of S3. */
  readonly sizeMax: number;
  /** How long an upload may stay unfinished (ruling 14). Default 24 h. */
  readonly uploadWindowMs: number;
  /** Life of signed URLs, counted from the request (ruling 7). Default 1 h. */
  readonly urlTtlMs: number;
  /** How long the bytes of a dead row stay. At least `urlTtlMs`, so that no signed URL can still write them. Default 1 h. */
  readonly graceMs: number;
  /** Per machine client (ruling 8); `max` 0 switches a limit off. */
  readonly limits: {
    /** Default 100 a minute. */
    readonly list: LimitRule;
    /** Counted when a download URL is used. Default 1000 an hour. */
    readonly download: LimitRule;
    /** Tokens issued. Default 10 a minute. */
    readonly token: LimitRule;
  };
}

export const DEFAULT_SETTINGS: Settings = {
  sizeMax: 5 * 1024 ** 3,
  uploadWindowMs: DAY_MS,
  urlTtlMs: HOUR_MS,
  graceMs: HOUR_MS,
  limits: {
    list: { max: 100, windowMs: MINUTE_MS },
    download: { max: 1_000, windowMs: HOUR_MS },
    token: { max: 10, windowMs: MINUTE_MS },
  },
};

export interface DocyardOptions {
  readonly store: Store;
  readonly blobs: BlobStore;
  readonly queue: Queue;
  readonly limit: RateLimit;
  readonly settings?: Partial<Settings>;
  /** Milliseconds since 1970 UTC. Default `Date.now`. */
  readonly now?: () => number;
  /** Default: ULIDs from `now` and the platform's randomness. */
  readonly ids?: IdSource;
}

export interface CreateInput {
  /** Kept verbatim; see `filenameFault` for what is refused. */
  readonly filename: string;
  /** Default `application/octet-stream`. */
  readonly contentType?: string;
  /** Bytes the client means to send; must then be what arrives. */
  readonly size?: number;
  /** SHA-256, bare or `sha256:` hex in any case. */
  readonly hash?: string;
  readonly metadata?: JsonObject;
}

/** A new artifact with its upload, or the one that already holds the declared content. */
export type Created =
  | { readonly artifact: Artifact; readonly isDuplicate: false; readonly upload: SignedUrl }
  | { readonly artifact: Artifact; readonly isDuplicate: true; readonly upload: null };

export interface Completed {
  /** The upload's own artifact, or the one that already held the same content (contract 11). */
  readonly artifact: Artifact;
  readonly isDuplicate: boolean;
}

export interface ListInput {
  /** Clamped to 1000; default 20. */
  readonly limit?: number;
  readonly offset?: number;
  /** A `nextCursor`; not together with `offset`. */
  readonly cursor?: string;
  readonly search?: string;
  readonly filter?: Filter;
  readonly createdAfter?: number;
  readonly createdBefore?: number;
  /** Default: completed ones only, since every listed URL must work (ruling 6). */
  readonly statuses?: readonly Exclude<ArtifactStatus, "deleted">[];
}

/** An artifact with a URL for its bytes; null while it has none. */
export interface Listed {
  readonly artifact: Artifact;
  readonly download: SignedUrl | null;
}

export interface ReadableDock {
  readonly dock: Dock;
  /**
   * One page, newest first.
   * @throws DocyardError `resource_exhausted` over the list limit; `invalid_argument` for bad paging.
   */
  list(input: ListInput): Promise<{ readonly items: readonly Listed[]; readonly page: PageNumbers }>;
  /** @throws DocyardError `not_found` for what is missing, deleted, or another dock's. */
  get(id: string): Promise<Listed>;
}

export interface WritableDock {
  readonly dock: Dock;
  /**
   * Registers an artifact, or finds the completed one with the declared hash (ruling 1).
   * @throws DocyardError `invalid_argument` with one issue per fault; `too_large`.
   */
  create(input: CreateInput): Promise<Created>;
  /**
   * Publishes what was uploaded, once it is verified and durable; harmless to repeat (ruling 2). An artifact that comes
   * back as `upload_started` is still being verified in the background.
   * @throws DocyardError `not_found`; `invalid_argument` if `storageKey` is not this upload's; `failed_precondition`
   *   while there are no bytes, or after the window; `integrity_mismatch` if they differ from what was declared: they
   *   are dropped then, and the client may PUT again.
   */
  complete(input: { readonly uploadId: string; readonly storageKey?: string }): Promise<Completed>;
  /** Deletes: gone from every list at once, its bytes after the grace period. @throws DocyardError `not_found`. */
  remove(id: string): Promise<void>;
}

/** What each scope opens. */
export interface DockFor {
  readonly "artifacts:read": ReadableDock;
  readonly "artifacts:write": WritableDock;
}

export interface SweepReport {
  /** Rows that were due and have been dealt with. */
  readonly handled: number;
  /** Rows that were due and could not be; they stay due. The errors are for the log. */
  readonly failures: readonly { readonly artifactId: string; readonly error: unknown }[];
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
  /** What a blob store that serves itself asks while it does: admission, and reports of corruption. */
  readonly blobHost: BlobHost;
  /** Does what is due: expires abandoned uploads, removes dead bytes. Safe to run at any time, anywhere, twice. */
  sweep(options?: { readonly limit?: number; readonly signal?: AbortSignal }): Promise<SweepReport>;
  /** Resolves when store, blobs and queue can work; rejects with the first reason why not. */
  ready(): Promise<void>;
}

/** A guarded write that keeps missing means that something else keeps winning: more than a few rounds is a bug. */
const SETTLE_ROUNDS_MAX = 8;
/** Rows one sweep takes at a time: bounded memory and short transactions (lesson R-24). */
const SWEEP_BATCH = 100;
/** Uploads land here until they are complete. */
const STAGING_PREFIX = "incoming/";
const DEFAULT_CONTENT_TYPE = "application/octet-stream";
/** RFC 6838 names with optional parameters, in visible ASCII: it becomes a header of every download. */
const CONTENT_TYPE = /^[\w!#$&^.+-]{1,127}\/[\w!#$&^.+-]{1,127}(?:\s*;[\x20-\x7e]{0,256})?$/;

/** Wires the use cases to their ports. Nothing runs by itself: a host calls `sweep` now and then. */
export function createDocyard(options: DocyardOptions): Docyard {
  const { store, blobs, queue, limit, now = Date.now } = options;
  const settings: Settings = { ...DEFAULT_SETTINGS, ...options.settings };
  const ids = options.ids ?? createIdSource(now);
  const { artifacts, accounts } = store;

  const event = (type: EventType, by: string | null, data: JsonObject = {}): NewEvent => ({
    type,
    at: now(),
    by,
    data,
  });

  const takeLimit = async (name: keyof Settings["limits"], principalId: string): Promise<void> => {
    const rule = settings.limits[name];
    if (rule.max === 0) return;
    const taken = await limit.take(`${name}:${principalId}`, rule);
    if (taken.allowed) return;
    throw new DocyardError(
      "resource_exhausted",
      `Rate limit exceeded: ${rule.max} ${LIMIT_NOUNS[name]} per ${windowName(rule.windowMs)}`,
      { retryAfterMs: taken.retryAfterMs },
    );
  };

  const signDownload = async (artifact: Artifact, principal: Principal): Promise<SignedUrl | null> =>
    artifact.status === "upload_completed" &&
    artifact.blobKey !== null &&
    artifact.size !== null &&
    artifact.digest !== null
      ? blobs.signGet(artifact.blobKey, {
          expiresAt: now() + settings.urlTtlMs,
          filename: artifact.filename,
          contentType: artifact.contentType,
          size: artifact.size,
          digest: artifact.digest,
          artifactId: artifact.id,
          principalId: principal.id,
        })
      : null;

  const createUpload = async (dock: Dock, principal: Principal, input: CreateInput): Promise<Created> => {
    const { digest } = checkCreate(input);
    const size = input.size ?? null;
    if (size !== null && size > settings.sizeMax) throw sizeLimitError(settings.sizeMax);
    if (digest !== null) {
      const twin = await artifacts.findByDigest(dock.id, digest, "machine");
      if (twin !== null) return { artifact: twin, isDuplicate: true, upload: null };
    }
    const at = now();
    const uploadId = ids.ulid("upload");
    const id = ids.ulid("art");
    const artifact: Artifact = {
      id,
      dockId: dock.id,
      face: "machine",
      version: 1,
      status: "created",
      filename: input.filename,
      contentType: input.contentType ?? DEFAULT_CONTENT_TYPE,
      size,
      digest,
      metadata: input.metadata ?? {},
      mediaType: null,
      source: { kind: "upload" },
      durationMs: null,
      failure: null,
      uploadId,
      stagingKey: STAGING_PREFIX + uploadId,
      storageKey: storageKey(dock.id, id, at),
      blobKey: null,
      sharesBlob: false,
      duplicateOf: null,
      attempts: 0,
      dueAt: at + settings.uploadWindowMs,
      createdBy: principal.id,
      createdAt: at,
      updatedAt: at,
    };
    await artifacts.insert(artifact, event("artifact.created", principal.id));
    const upload = await blobs.signPut(artifact.stagingKey!, {
      expiresAt: at + settings.urlTtlMs,
      sizeMax: settings.sizeMax,
      ...(size === null ? {} : { size }),
      ...(digest === null ? {} : { digest }),
      artifactId: id,
    });
    return { artifact, isDuplicate: false, upload };
  };

  const completeUpload = async (
    dock: Dock,
    principal: Principal,
    input: { readonly uploadId: string; readonly storageKey?: string },
  ): Promise<Completed> => {
    const artifact = await artifacts.get({ uploadId: input.uploadId });
    if (artifact === null || artifact.dockId !== dock.id || artifact.face !== "machine") {
      throw new DocyardError("not_found", `Upload ${shown(input.uploadId)} not found in dock ${dock.id}`);
    }
    if (input.storageKey !== undefined && input.storageKey !== artifact.storageKey) {
      throw new DocyardError("invalid_argument", "s3Key does not match the storageKey of this upload");
    }
    return settle(artifact, principal.id);
  };

  /**
   * The one door to `upload_completed` for uploads. Copies the staged bytes to a key that names their digest, then lets
   * one guarded write decide; whoever loses reads again and returns what is true by then. A crash between any two
   * steps leaves a row in `created` with its bytes still staged: repeating the call finishes.
   */
  const settle = async (first: Artifact, by: string): Promise<Completed> => {
    let artifact = first;
    /** Set when equal content turned out to be held by an artifact of the other face. */
    let shareWith: Artifact | null = null;
    for (let round = 0; round < SETTLE_ROUNDS_MAX; round++) {
      const ended = await settled(artifact);
      if (ended !== null) return ended;

      const staged = await blobs.stat(artifact.stagingKey!);
      if (staged === null) {
        // A racing complete may have finished and dropped the staged bytes since this row was read.
        const current = await artifacts.get({ id: artifact.id });
        if (current !== null && current.version !== artifact.version) {
          artifact = current;
          continue;
        }
        throw new DocyardError(
          "failed_precondition",
          "No bytes have been uploaded yet: PUT them to uploadUrl, then complete",
        );
      }
      const fault = declarationFault(artifact, staged, settings.sizeMax);
      if (fault !== null) {
        await blobs.delete(artifact.stagingKey!);
        throw fault;
      }
      if (staged.digest === null) return verifyLater(artifact, by);

      const content = { size: staged.size, digest: staged.digest };
      const twin = await artifacts.findByDigest(artifact.dockId, content.digest, "machine");
      const blobKey = shareWith?.blobKey ?? ownBlobKey(artifact, content.digest);
      if (
        twin === null &&
        shareWith === null &&
        !(await blobs.copy(artifact.stagingKey!, blobKey, content))
      ) {
        continue; // the client has PUT again meanwhile: look at the new bytes
      }
      const change: ArtifactChange =
        twin === null
          ? finishChange(artifact, { ...content, blobKey, sharesBlob: shareWith !== null })
          : duplicateChange(artifact, twin);
      let updated: Artifact | null;
      try {
        updated = await artifacts.update(
          artifact.id,
          artifact.version,
          change,
          twin === null
            ? event("artifact.completed", by, { size: content.size, digest: content.digest })
            : event("artifact.deleted", by, { duplicateOf: twin.id }),
        );
      } catch (error) {
        if (!isDocyardError(error, "already_exists")) throw error;
        // Equal content won a unique index meanwhile. Of our own face: the next round finds the twin. Else: share it.
        const holder = await artifacts.findByDigest(artifact.dockId, content.digest);
        shareWith = holder !== null && holder.face !== "machine" ? holder : null;
        continue;
      }
      if (updated !== null) {
        // A duplicate's own bytes are left to the sweep: deleting gigabytes has no place in a request.
        if (twin !== null) return { artifact: twin, isDuplicate: true };
        if (shareWith !== null) await blobs.delete(ownBlobKey(artifact, content.digest));
        await blobs.delete(artifact.stagingKey!);
        return { artifact: updated, isDuplicate: false };
      }
      const current = await artifacts.get({ id: artifact.id });
      if (current === null) break;
      artifact = current;
    }
    throw new DocyardError("internal", "Internal server error", {
      cause: new Error(`artifact ${artifact.id} did not settle in ${SETTLE_ROUNDS_MAX} rounds`),
    });
  };

  /** What an artifact that needs no settling answers, or null when it is still to be settled. */
  const settled = async (artifact: Artifact): Promise<Completed | null> => {
    switch (artifact.status) {
      case "created":
        return null;
      case "upload_started":
      case "upload_completed":
        return { artifact, isDuplicate: false };
      case "upload_failed":
        throw new DocyardError(
          "failed_precondition",
          `This upload has failed (${artifact.failure?.message ?? "no reason recorded"}): create the artifact again`,
        );
      case "deleted": {
        const twin = artifact.duplicateOf === null ? null : await artifacts.get({ id: artifact.duplicateOf });
        if (twin !== null && twin.status === "upload_completed") return { artifact: twin, isDuplicate: true };
        throw new DocyardError("not_found", `Artifact ${artifact.id} has been deleted`);
      }
    }
  };

  /** Where the store cannot attest a digest: 202, and a worker reads the bytes (ruling 2). */
  const verifyLater = async (artifact: Artifact, by: string): Promise<Completed> => {
    const started = await artifacts.update(
      artifact.id,
      artifact.version,
      { status: nextStatus(artifact, "begin"), dueAt: now(), updatedAt: now() },
      event("artifact.started", by),
    );
    await queue.push(artifact.id);
    return {
      artifact: started ?? (await artifacts.get({ id: artifact.id })) ?? artifact,
      isDuplicate: false,
    };
  };

  const finishChange = (
    artifact: Artifact,
    content: {
      readonly size: number;
      readonly digest: string;
      readonly blobKey: string;
      readonly sharesBlob: boolean;
    },
  ): ArtifactChange => ({
    ...content,
    status: nextStatus(artifact, "finish"),
    dueAt: null,
    updatedAt: now(),
  });

  const duplicateChange = (artifact: Artifact, twin: Artifact): ArtifactChange => ({
    status: nextStatus(artifact, "remove"),
    duplicateOf: twin.id,
    dueAt: now() + settings.graceMs,
    updatedAt: now(),
  });

  const dropUnlessUsed = async (blobKey: string): Promise<void> => {
    if (!(await artifacts.isBlobInUse(blobKey))) await blobs.delete(blobKey);
  };

  const removeArtifact = async (dock: Dock, principal: Principal, id: string): Promise<void> => {
    for (let round = 0; round < SETTLE_ROUNDS_MAX; round++) {
      const artifact = await visible(dock, id);
      const at = now();
      const removed = await artifacts.update(
        id,
        artifact.version,
        {
          status: nextStatus(artifact, "remove"),
          failure: null,
          dueAt: at + settings.graceMs,
          updatedAt: at,
        },
        event("artifact.deleted", principal.id),
      );
      if (removed !== null) return;
    }
    throw new DocyardError("internal", "Internal server error", {
      cause: new Error(`artifact ${id} kept changing while it was being deleted`),
    });
  };

  /** @throws DocyardError `not_found` for what this dock must not show. */
  const visible = async (dock: Dock, id: string): Promise<Artifact> => {
    const artifact = await artifacts.get({ id });
    if (
      artifact === null ||
      artifact.dockId !== dock.id ||
      artifact.face !== "machine" ||
      artifact.status === "deleted"
    ) {
      throw new DocyardError("not_found", `Artifact ${shown(id)} not found in dock ${dock.id}`);
    }
    return artifact;
  };

  const listArtifacts = async (
    dock: Dock,
    principal: Principal,
    input: ListInput,
  ): Promise<{ items: Listed[]; page: PageNumbers }> => {
    await takeLimit("list", principal.id);
    const { start, limit: pageLimit } = checkPaging(input);
    const query: FindQuery = {
      dockId: dock.id,
      face: "machine",
      statuses: input.statuses ?? ["upload_completed"],
      ...(input.filter === undefined ? {} : { filter: input.filter }),
      ...(input.search === undefined ? {} : { search: input.search }),
      ...(input.createdAfter === undefined ? {} : { createdAfter: input.createdAfter }),
      ...(input.createdBefore === undefined ? {} : { createdBefore: input.createdBefore }),
      start,
      limit: pageLimit,
    };
    const found = await artifacts.find(query);
    const items: Listed[] = [];
    for (const artifact of found.rows) {
      items.push({ artifact, download: await signDownload(artifact, principal) });
    }
    return { items, page: pageNumbers(start, pageLimit, found) };
  };

  /** Rows whose time has come, whatever it is that they wait for. */
  const handleDue = async (artifact: Artifact): Promise<void> => {
    switch (artifact.status) {
      case "created":
        await artifacts.update(
          artifact.id,
          artifact.version,
          {
            status: nextStatus(artifact, "fail"),
            failure: {
              code: "failed_precondition",
              message: "The upload was not completed before its window ended",
            },
            dueAt: now() + settings.graceMs,
            updatedAt: now(),
          },
          event("artifact.failed", null, { reason: "expired" }),
        );
        return;
      case "upload_started":
        await queue.push(artifact.id);
        return;
      case "upload_failed":
      case "deleted":
        await dropBytes(artifact);
        await artifacts.update(
          artifact.id,
          artifact.version,
          { dueAt: null },
          event("artifact.cleaned", null),
        );
        return;
      case "upload_completed":
        await artifacts.update(
          artifact.id,
          artifact.version,
          { dueAt: null },
          event("artifact.cleaned", null),
        );
    }
  };

  /** All bytes a dead row may have left: staged, copied but never published, and published ones no other row uses. */
  const dropBytes = async (artifact: Artifact): Promise<void> => {
    if (artifact.stagingKey !== null) {
      const staged = await blobs.stat(artifact.stagingKey);
      if (staged !== null && staged.digest !== null) {
        await dropUnlessUsed(ownBlobKey(artifact, staged.digest));
      }
      await blobs.delete(artifact.stagingKey);
    }
    if (artifact.blobKey !== null) await dropUnlessUsed(artifact.blobKey);
  };

  return {
    settings,

    async authenticate({ clientId, clientSecret, scopes }) {
      const client = await accounts.find("client", { handle: clientId });
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
      await takeLimit("token", client.id);
      return principalOf(client, scopes === undefined || scopes.length === 0 ? client.scopes : scopes);
    },

    async principal(machineClientId, scopes) {
      const client = await accounts.find("client", { id: machineClientId });
      if (client === null || !client.isActive) {
        throw new DocyardError("unauthenticated", "Invalid or expired token");
      }
      return principalOf(client, scopes);
    },

    async open<S extends keyof DockFor>(principal: Principal, dockId: string, scope: S): Promise<DockFor[S]> {
      requireScope(principal, scope);
      // A foreign dock is refused before it is looked up: nothing leaks, not even by time.
      const reachable = principal.dockId === null || principal.dockId === dockId;
      const dock = requireDock(
        principal,
        dockId,
        reachable ? await accounts.find("dock", { id: dockId }) : null,
      );
      const handles: { readonly [K in keyof DockFor]: DockFor[K] } = {
        "artifacts:read": {
          dock,
          list: (input) => listArtifacts(dock, principal, input),
          get: async (id) => {
            const artifact = await visible(dock, id);
            return { artifact, download: await signDownload(artifact, principal) };
          },
        },
        "artifacts:write": {
          dock,
          create: (input) => createUpload(dock, principal, input),
          complete: (input) => completeUpload(dock, principal, input),
          remove: (id) => removeArtifact(dock, principal, id),
        },
      };
      return handles[scope];
    },

    blobHost: {
      async admit(grant) {
        const artifact = await artifacts.get({ id: grant.artifactId });
        if (artifact === null || artifact.status === "deleted") {
          throw new DocyardError("not_found", "This artifact has been deleted");
        }
        if (grant.method === "PUT") {
          if (artifact.status !== "created") {
            throw new DocyardError("failed_precondition", "This upload is already complete or has ended");
          }
        } else if (grant.method === "GET" && grant.principalId !== null) {
          await takeLimit("download", grant.principalId);
        }
      },

      async corrupt(grant: BlobGrant, reason: string) {
        // Another change may come between the read and the guarded write; the report must not be lost for that.
        for (let round = 0; round < SETTLE_ROUNDS_MAX; round++) {
          const artifact = await artifacts.get({ id: grant.artifactId });
          if (artifact === null) return;
          const by = grant.principalId;
          const logged = await artifacts.update(
            artifact.id,
            artifact.version,
            {},
            event("artifact.corrupt", by, { key: grant.key, reason }),
          );
          if (logged !== null) return;
        }
      },
    },

    async sweep({ limit: max = Number.POSITIVE_INFINITY, signal } = {}) {
      let handled = 0;
      const failures: { artifactId: string; error: unknown }[] = [];
      const seen = new Set<string>();
      const mayGoOn = (): boolean => signal?.aborted !== true && handled + failures.length < max;
      while (mayGoOn()) {
        const due = await artifacts.due(now(), SWEEP_BATCH);
        const fresh = due.filter(({ id, version }) => !seen.has(`${id}:${version}`));
        if (fresh.length === 0) break;
        for (const artifact of fresh) {
          if (!mayGoOn()) break;
          seen.add(`${artifact.id}:${artifact.version}`);
          try {
            await handleDue(artifact);
            handled++;
          } catch (error) {
            failures.push({ artifactId: artifact.id, error });
          }
        }
      }
      return { handled, failures };
    },

    async ready() {
      await Promise.all([store.ready(), blobs.ready(), queue.ready()]);
    },
  };
}

const LIMIT_NOUNS: Record<keyof Settings["limits"], string> = {
  list: "list requests",
  download: "downloads",
  token: "tokens",
};

function windowName(ms: number): string {
  if (ms === HOUR_MS) return "hour";
  if (ms === MINUTE_MS) return "minute";
  return `${ms / 1_000} seconds`;
}

/** A client's own text inside a message: short, so that a message stays one line. */
function shown(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

function principalOf(client: MachineClient, scopes: readonly string[]): Principal {
  return {
    id: client.id,
    organizationId: client.organizationId,
    dockId: client.dockId,
    scopes: client.scopes.filter((scope: Scope) => scopes.includes(scope)),
  };
}

/** One folder per dock and day: easy to find and back up by hand, and never millions of names in one folder. */
function storageKey(dockId: string, artifactId: string, createdAt: number): string {
  const day = new Date(createdAt).toISOString().slice(0, 10);
  return `docks/${dockId}/artifacts/${day}/${artifactId.slice(artifactId.indexOf("_") + 1).toLowerCase()}`;
}

/** Final keys name their content: whoever writes one writes the same bytes, and `sha256sum` can check a folder by eye. */
function ownBlobKey(artifact: Artifact, digest: string): string {
  return `${artifact.storageKey}-${digest}`;
}

function sizeLimitError(sizeMax: number): DocyardError {
  return new DocyardError("too_large", `File size exceeds the limit of ${sizeMax} bytes`);
}

/** Every fault of a create at once (contract 1A: messages come as an array). */
function checkCreate(input: CreateInput): { digest: string | null } {
  const issues: string[] = [];
  const nameFault = filenameFault(input.filename);
  if (nameFault !== null) issues.push(nameFault);
  if (input.contentType !== undefined && !CONTENT_TYPE.test(input.contentType)) {
    issues.push("contentType must be a media type such as application/pdf");
  }
  if (input.size !== undefined && !(Number.isSafeInteger(input.size) && input.size >= 0)) {
    issues.push("size must be a non-negative integer number of bytes");
  }
  const digest = input.hash === undefined ? null : parseDigest(input.hash);
  if (input.hash !== undefined && digest === null) {
    issues.push("hash must be a SHA-256 as 64 hex digits, optionally after sha256:");
  }
  const fault = input.metadata === undefined ? null : metadataFault(input.metadata);
  if (fault !== null) issues.push(fault);
  if (issues.length > 0) throw invalid(issues);
  return { digest };
}

function checkPaging(input: ListInput): { start: PageStart; limit: number } {
  const issues: string[] = [];
  const { limit = PAGE_LIMIT_DEFAULT, offset = 0 } = input;
  if (!(Number.isSafeInteger(limit) && limit >= 1)) issues.push("limit must be an integer of at least 1");
  if (!(Number.isSafeInteger(offset) && offset >= 0)) issues.push("offset must be an integer of at least 0");
  if (input.cursor !== undefined && input.offset !== undefined) {
    issues.push("cursor and offset cannot be combined");
  }
  if (input.statuses?.length === 0) issues.push("status must name at least one status");
  if (issues.length > 0) throw invalid(issues);
  return {
    start: input.cursor === undefined ? { offset } : { after: decodeCursor(input.cursor) },
    limit: clampLimit(limit),
  };
}

function invalid(issues: readonly string[]): DocyardError {
  return new DocyardError("invalid_argument", issues.join("; "), { issues });
}

/** Why the staged bytes are not what was declared, or null (rulings 2 and 4). */
function declarationFault(
  artifact: Artifact,
  staged: { readonly size: number; readonly digest: string | null },
  sizeMax: number,
): DocyardError | null {
  if (staged.size > sizeMax) return sizeLimitError(sizeMax);
  if (artifact.size !== null && artifact.size !== staged.size) {
    return new DocyardError(
      "integrity_mismatch",
      `Uploaded ${staged.size} bytes, but size was declared as ${artifact.size}: PUT the right bytes and complete again`,
    );
  }
  if (artifact.digest !== null && staged.digest !== null && artifact.digest !== staged.digest) {
    return new DocyardError(
      "integrity_mismatch",
      `Uploaded bytes have hash sha256:${staged.digest}, but sha256:${artifact.digest} was declared: PUT the right bytes and complete again`,
    );
  }
  return null;
}
