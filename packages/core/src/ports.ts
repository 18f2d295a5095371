/**
 * The ports: everything docyard does to the outside world, with each method's contract in prose.
 *
 * Every method may also reject with the driver's own raw error; core reports that as `internal`. A port changes only
 * together with its conformance suite (`@docyard/adapters/conformance/*`).
 */

import type { AccountKind, AccountOf, AccountRecord } from "./access.ts";
import type {
  Artifact,
  ArtifactChange,
  ArtifactEvent,
  ArtifactStatus,
  ArtifactSummary,
  Face,
  MediaType,
  NewEvent,
} from "./artifact.ts";
import type { Filter } from "./filter.ts";
import type { PageStart } from "./page.ts";
import type { Quota, Usage } from "./quota.ts";

/** Rows and events; the only truth. */
export interface Store {
  readonly artifacts: ArtifactStore;
  readonly accounts: AccountStore;
  /**
   * Every record as of one moment, in batches of at most 1,000: accounts first (an organisation before what is its), then
   * artifacts by id, then events by dock and `seq`. Writers go on meanwhile. What a caller does not read to its end
   * is released.
   */
  dump(options?: { readonly signal?: AbortSignal }): AsyncIterable<readonly StoreRecord[]>;
  /**
   * Adds records as they are, all or none, durably; those that are there already (account by kind and id, artifact by
   * id, event by dock and `seq`) are left as they are. Afterwards everything holds as if they had been written one by
   * one: lists, totals, usage, and the next event's `seq`, which comes after the highest.
   * @returns how many were added
   * @throws DocyardError `already_exists` if one breaks a unique rule in another way; nothing was added then.
   */
  load(records: readonly StoreRecord[]): Promise<number>;
  /** Resolves when the store can read and write; rejects with the reason when it cannot. */
  ready(): Promise<void>;
  /** Finishes writes under way and releases everything; repeating it is harmless, later calls reject. */
  close(): Promise<void>;
}

/** A record as `dump` tells it and `load` takes it. */
export type StoreRecord =
  | { readonly kind: "account"; readonly account: AccountRecord }
  | { readonly kind: "artifact"; readonly artifact: Artifact }
  | { readonly kind: "event"; readonly event: ArtifactEvent };

export type ArtifactKey = { readonly id: string } | { readonly uploadId: string };

export interface FindQuery {
  readonly dockId: string;
  readonly face: Face;
  /** At least one; never `deleted`. */
  readonly statuses: readonly ArtifactStatus[];
  readonly mediaType?: MediaType;
  /** Metadata containment as `match` in filter.ts defines it; `{}` or absent: no condition. */
  readonly filter?: Filter;
  /** Part of the filename, compared after `foldName` on both sides; empty or absent: no condition. */
  readonly search?: string;
  /** Inclusive, milliseconds since 1970 UTC. */
  readonly createdAfter?: number;
  /** Exclusive, milliseconds since 1970 UTC. */
  readonly createdBefore?: number;
  readonly start: PageStart;
  /** 1..`PAGE_LIMIT_MAX`. */
  readonly limit: number;
}

export interface Found {
  /** Newest first, ids break ties (`compareNewestFirst`). */
  readonly rows: readonly ArtifactSummary[];
  /** How many rows match in all, exactly, wherever the page starts. */
  readonly total: number;
  /** Whether a matching row comes after the last one returned (for an empty page: always false). */
  readonly more: boolean;
}

/** One status at a time: what is due in one is more urgent than in another, and may be many rows. */
export interface DueQuery {
  readonly status: ArtifactStatus;
  /** The latest `dueAt`, inclusive, milliseconds since 1970 UTC. */
  readonly until: number;
  /** Only rows that come after the place of this one, where it is or was. Absent: from the first. */
  readonly after?: DuePlace;
  readonly limit: number;
}

export interface DuePlace {
  readonly dueAt: number;
  readonly id: string;
}

/**
 * Artifact rows, changed only by compare-and-set, each change with its event in the same transaction.
 * A resolved write is durable: it survives SIGKILL and power loss in every store that claims to persist.
 */
export interface ArtifactStore {
  /**
   * Stores a new row and its event.
   * @throws DocyardError `already_exists` if the id or upload id is taken; `quota_exceeded` as `requireQuota` says, when
   *   a quota is given; nothing is stored then.
   */
  insert(artifact: Artifact, event: NewEvent, quota?: Quota): Promise<void>;

  /** The row, whatever its status, or null. */
  get(key: ArtifactKey): Promise<Artifact | null>;

  /** Of the row no more than its status, or null: asked for every transfer by signed URL, and so to be cheap. */
  status(id: string): Promise<ArtifactStatus | null>;

  /**
   * Applies the change if the row still has this version, adds one to the version, appends the event, and resolves to
   * the new row. Null if the row is missing or its version differs: nothing was changed and no event written.
   * `event` is null only where there is nothing to tell a reader of the log: a worker renews its lease.
   *
   * Two rules are unique indexes here, and are what makes dedup safe under any race:
   * - at most one `upload_completed` row of the machine face per (dock, digest);
   * - at most one `upload_completed` row per (dock, digest), of whatever face, with `sharesBlob` false.
   * @throws DocyardError `already_exists` if the change would break either; `quota_exceeded` as `requireQuota` says,
   *   when a quota is given; nothing was changed.
   */
  update(
    id: string,
    version: number,
    change: ArtifactChange,
    event: NewEvent | null,
    quota?: Quota,
  ): Promise<Artifact | null>;

  /** One page of a dock. Rows committed before the call are seen; the page and its total are of one moment. */
  find(query: FindQuery): Promise<Found>;

  /**
   * The completed row of this dock that holds these verified bytes, or null: of this face when one is named, else of
   * any. Where several qualify, one with `sharesBlob` false is preferred.
   */
  findByDigest(dockId: string, digest: string, face?: Face): Promise<Artifact | null>;

  /** Whether a completed row has this `blobKey`: its bytes must stay. */
  isBlobInUse(blobKey: string): Promise<boolean>;

  /** What the dock holds: the sum of `usageOf` over its rows, kept with every change rather than counted. */
  usage(dockId: string): Promise<Usage>;

  /** Rows of every dock and status whose id comes after `after`, by id, at most `limit`. */
  walk(after: string, limit: number): Promise<Artifact[]>;

  /** Rows of every dock that are due, longest due first, ids break ties. */
  due(query: DueQuery): Promise<Artifact[]>;

  /**
   * Events of a dock with `seq > after`, in order of `seq`, at most `limit`. Sequence numbers start at 1 and have no
   * gaps, and no event appears after a later one was read.
   */
  events(dockId: string, after: number, limit: number): Promise<ArtifactEvent[]>;
}

/** Organisations, docks, clients and keys: few rows, written by operators. */
export interface AccountStore {
  /**
   * Stores all records or none.
   * @throws DocyardError `already_exists` if an id or handle (`handleOf`) is taken within its kind.
   */
  insert(records: readonly AccountRecord[]): Promise<void>;

  /** The record with this id or this handle, or null. */
  find<K extends AccountKind>(
    kind: K,
    by: { readonly id: string } | { readonly handle: string },
  ): Promise<AccountOf<K> | null>;

  /** All records of a kind, oldest first, ids break ties; only of one organisation when it is named. */
  list<K extends AccountKind>(kind: K, organizationId?: string): Promise<AccountOf<K>[]>;

  /** Changes fields of a record in one atomic step; resolves to the new record, or null if there is none. */
  update<K extends AccountKind>(
    kind: K,
    id: string,
    change: Partial<Omit<AccountOf<K>, "kind" | "id">>,
  ): Promise<AccountOf<K> | null>;
}

export interface BlobInfo {
  /** Bytes. */
  readonly size: number;
  /** SHA-256 as 64 lower-case hex digits, or null where the store cannot attest it without reading the bytes. */
  readonly digest: string | null;
}

/** Half-open, in bytes: `end` is exclusive. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

export interface SignedUrl {
  /** Absolute. A secret while it lasts: never logged. */
  readonly url: string;
  readonly method: "PUT" | "GET";
  /** Headers the client must send for the signature to hold; often none. */
  readonly headers: Readonly<Record<string, string>>;
  /** Milliseconds since 1970 UTC. */
  readonly expiresAt: number;
}

export interface SignPutOptions {
  readonly expiresAt: number;
  /** Bytes; a longer body is cut off and refused with `too_large`. */
  readonly sizeMax: number;
  /** What the client declared, for stores that can enforce it themselves. */
  readonly size?: number;
  readonly digest?: string;
  /** Comes back in the grant. */
  readonly artifactId: string;
}

export interface SignGetOptions {
  readonly expiresAt: number;
  /** For `Content-Disposition: attachment`; any accepted filename, however odd. */
  readonly filename: string;
  readonly contentType: string;
  readonly size: number;
  /** The bytes must match it, or they are not handed out; also the ETag. */
  readonly digest: string;
  /** Both come back in the grant. */
  readonly artifactId: string;
  readonly principalId: string;
}

/** What a signed URL proved to be for. */
export interface BlobGrant {
  readonly method: "PUT" | "GET" | "HEAD";
  readonly key: string;
  readonly artifactId: string;
  /** Whom a download was signed for; null on uploads. */
  readonly principalId: string | null;
}

/** What a store that serves itself asks of its host while it does. */
export interface BlobHost {
  /**
   * Called once the signature holds and before any byte moves. Rejects with a `DocyardError` to refuse: upload
   * already completed, artifact gone, download limit reached, storage full.
   * @param bytes what an upload announces (`Content-Length`), as far as it does
   */
  admit(grant: BlobGrant, bytes?: number): Promise<void>;
  /** Called when stored bytes did not match their digest; whatever was being sent has been withheld or cut off. */
  corrupt(grant: BlobGrant, reason: string): Promise<void>;
}

/** A request and response pair of `node:http`, handed through untouched for stores that have a faster way on Node. */
export interface NodeExchange {
  readonly incoming: unknown;
  readonly outgoing: unknown;
}

/**
 * Bytes under opaque keys. Keys are made by core from `[A-Za-z0-9_.-]` segments joined by `/`.
 * A resolved write is durable in every store that claims to persist.
 */
export interface BlobStore {
  /**
   * Streams the body under `key`: readable only when complete and synced, and then replaces earlier bytes of that key
   * atomically. If the body rejects or is longer than `sizeMax`, nothing under the key has changed. With `mayVanish` the
   * key may be gone after a power cut, for bytes that are fetched anew then; what `copy` makes of it stays.
   * @throws DocyardError `too_large`
   */
  put(
    key: string,
    body: AsyncIterable<Uint8Array>,
    options: { readonly sizeMax: number; readonly signal?: AbortSignal; readonly mayVanish?: boolean },
  ): Promise<{ readonly size: number; readonly digest: string }>;

  /**
   * The bytes, or a range of them that lies within the blob. Chunks are only valid until the next one is asked for.
   * @throws DocyardError `not_found`, before the first chunk.
   */
  get(
    key: string,
    options?: { readonly range?: ByteRange; readonly signal?: AbortSignal },
  ): Promise<{ readonly size: number; readonly body: AsyncIterable<Uint8Array> }>;

  /** Size and, where attested, digest; null when nothing is there. */
  stat(key: string): Promise<BlobInfo | null>;

  /**
   * Reads every byte and says what is really there; null when nothing is.
   * The truth where `stat` only attests.
   */
  digest(
    key: string,
    options?: { readonly signal?: AbortSignal },
  ): Promise<{ readonly size: number; readonly digest: string } | null>;

  /**
   * Durably puts what is at `from` under `to` as well, if it is still the blob that `stat` said it is. Resolves to true
   * when `to` holds exactly these bytes (also when it did before: `to` names its content, whoever writes it writes the
   * same), false when `from` is gone or holds something else by now. Nothing sent to `from` later, or at the same
   * time, can change `to`. On a disk this is a hard link, on S3 a server-side copy: no byte passes through here.
   */
  copy(
    from: string,
    to: string,
    expected: { readonly size: number; readonly digest: string },
  ): Promise<boolean>;

  /**
   * Removes the bytes; a missing key is success. Durable once resolved, unless they `mayReturn` after a power cut: for
   * bytes that a sweep would find again, which costs a disk one sync less.
   */
  delete(key: string, options?: { readonly mayReturn?: boolean }): Promise<void>;

  /**
   * Keys that start with `prefix` and come after `after`, in code unit order, at most `limit`. What a crash left of a
   * blob is listed too, with the size it has, though `stat` knows no such blob: `delete` takes it away.
   */
  list(
    prefix: string,
    options: { readonly after?: string; readonly limit: number },
  ): Promise<{ readonly key: string; readonly size: number; readonly modifiedAt: number }[]>;

  /**
   * Takes away what puts and copies that began before this moment (milliseconds since 1970 UTC) and never ended have
   * left where no list shows it. Resolves to how many there were. Absent where nothing of that kind can stay.
   */
  dropUnfinished?(before: number): Promise<number>;

  /** A URL that accepts the bytes of `key`, again and again until it expires; may be used without credentials. */
  signPut(key: string, options: SignPutOptions): Promise<SignedUrl>;

  /** A URL that hands out the bytes of `key` until it expires; ranges and conditional requests work. */
  signGet(key: string, options: SignGetOptions): Promise<SignedUrl>;

  /**
   * Present when the store redeems its own signed URLs; core never calls it, a server mounts it.
   * Rejects with a `DocyardError` for the host to put into its envelope: `permission_denied` (signature, expiry),
   * `not_found`, `too_large`, `data_loss`, `invalid_argument`, or whatever `host.admit` rejected with.
   */
  readonly serve?: BlobService;

  /**
   * Bytes that may still be written: what is free, less what uploads under way have announced. Absent where there is no
   * such bound.
   */
  space?(): Promise<number>;

  /** Resolves when bytes can be written and read; rejects with the reason when they cannot. */
  ready(): Promise<void>;
  /** Releases everything; later calls reject. */
  close(): Promise<void>;
}

export interface BlobService {
  /** Path prefix of all its URLs, below the public URL: `/v1/blobs/`. */
  readonly path: string;
  /** Answers PUT of whole files (one with `Content-Range` is refused), GET, HEAD and OPTIONS on its signed URLs. */
  fetch(request: Request, host: BlobHost): Promise<Response>;
  /**
   * The same on Node's own objects, without web streams in between. Resolves when the response has ended; rejects as
   * `fetch` does while nothing has been sent, and destroys the response on a fault after that.
   */
  node?(exchange: NodeExchange, host: BlobHost): Promise<void>;
}

/** A doorbell, not a ledger: losing a ring costs time, never work, because the sweep rings again (design idea 1). */
export interface Queue {
  /**
   * Ring for this artifact, at the earliest after `delayMs`: delivered at least once while the queue lives and is not
   * full of others (thousands), in any order, perhaps twice.
   */
  push(id: string, options?: { readonly delayMs?: number }): Promise<void>;
  /**
   * Calls `handle(id)` for each ring, at most `concurrency` at a time, until the signal aborts; resolves when the
   * handlers under way have settled. A rejecting handler is the handler's affair: the next ring is served.
   */
  consume(
    handle: (id: string) => Promise<void>,
    options: { readonly concurrency: number; readonly signal: AbortSignal },
  ): Promise<void>;
  ready(): Promise<void>;
  close(): Promise<void>;
}

export interface LimitRule {
  /** How many are allowed in a window; 0: no limit. */
  readonly max: number;
  readonly windowMs: number;
}

/** Counts per key in fixed windows that start with a key's first use. */
export interface RateLimit {
  /** Takes one of `rule.max`; when none is left, says how long until one is. */
  take(
    key: string,
    rule: LimitRule,
  ): Promise<{ readonly allowed: boolean; readonly remaining: number; readonly retryAfterMs: number }>;
  close(): Promise<void>;
}
