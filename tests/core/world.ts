/**
 * A whole docyard in memory for one test: three docks, a clock that the test turns, ports that the test may stand in
 * front of, and the client's side of uploads and downloads. What must hold in every world, whatever happened in it, is
 * in audit.ts.
 */

import { memoryBlobs } from "@docyard/adapters/blob/memory";
import { memoryLimit } from "@docyard/adapters/limit/memory";
import { memoryQueue } from "@docyard/adapters/queue/memory";
import { memoryStore } from "@docyard/adapters/store/memory";
import type {
  AccountRecord,
  Artifact,
  BlobStore,
  Docyard,
  DocyardOptions,
  Principal,
  Queue,
  RateLimit,
  ReadableDock,
  Scope,
  Store,
  WritableDock,
} from "@docyard/core";
import { createDocyard, createIdSource } from "@docyard/core";

import { artifactRow, NOON } from "./rows.ts";
import { fakeIngest } from "./studio-parts.ts";

export const MINUTE_MS = 60_000;
export const HOUR_MS: number = 60 * MINUTE_MS;

/** Two docks of one organisation and one of another. */
export const DOCKS = { dock_a: "org_x", dock_b: "org_x", dock_z: "org_y" } as const;
export type DockId = keyof typeof DOCKS;

/** Every call of a port goes through this: it may wait, fail, or call and then fail. */
export type Hook = (call: string, run: () => Promise<unknown>, args: readonly unknown[]) => Promise<unknown>;

export interface Ports {
  readonly store: Store;
  readonly blobs: BlobStore;
  readonly queue: Queue;
  readonly limit: RateLimit;
}

export interface WorldOptions {
  readonly settings?: NonNullable<DocyardOptions["settings"]>;
  /** Default: a memory store. */
  readonly store?: Store;
  /** A blob store that cannot tell digests without reading, as S3 without checksums. */
  readonly attestsDigests?: boolean;
}

export interface World extends Ports {
  readonly docyard: Docyard;
  /** Milliseconds since 1970 UTC. */
  readonly now: () => number;
  advance(ms: number): void;
  /** Another docyard on the same ports, with this hook in front of each of their calls. */
  hooked(hook: Hook): Docyard;
  reader(dockId: DockId, docyard?: Docyard): Promise<ReadableDock>;
  writer(dockId: DockId, docyard?: Docyard): Promise<WritableDock>;
  /** All keys of the blob store that start with this. */
  keys(prefix?: string): Promise<string[]>;
}

/** No limits: tests of limits set their own. */
const UNLIMITED = { max: 0, windowMs: MINUTE_MS };

export async function createWorld(options: WorldOptions = {}): Promise<World> {
  let time = NOON;
  const now = (): number => time;
  const ids = createIdSource(now);
  const memory = memoryBlobs({
    baseUrl: "http://docyard.test",
    secret: new TextEncoder().encode("a secret of thirty-two bytes, yes"),
    now,
  });
  const ports: Ports = {
    store: options.store ?? memoryStore(),
    blobs: options.attestsDigests === false ? withoutDigests(memory) : memory,
    queue: memoryQueue({ now, setTimeout: () => undefined }),
    limit: memoryLimit({ now }),
  };
  const settings = {
    ...options.settings,
    limits: { list: UNLIMITED, download: UNLIMITED, token: UNLIMITED, ...options.settings?.limits },
  };
  const build = (ports: Ports): Docyard =>
    createDocyard({ ...ports, ingest: fakeIngest(new Map()), settings, now, ids });
  const docyard = build(ports);
  await ports.store.accounts.insert(accounts());

  return {
    ...ports,
    docyard,
    now,
    advance(ms) {
      time += ms;
    },
    hooked: (hook) =>
      build({
        store: {
          ...ports.store,
          artifacts: intercepted(ports.store.artifacts, "artifacts", hook),
          accounts: intercepted(ports.store.accounts, "accounts", hook),
        },
        blobs: intercepted(ports.blobs, "blobs", hook),
        queue: intercepted(ports.queue, "queue", hook),
        limit: intercepted(ports.limit, "limit", hook),
      }),
    reader: (dockId, through = docyard) => through.open(principal(DOCKS[dockId]), dockId, "artifacts:read"),
    writer: (dockId, through = docyard) => through.open(principal(DOCKS[dockId]), dockId, "artifacts:write"),
    async keys(prefix = "") {
      const found = await ports.blobs.list(prefix, { limit: 1_000_000 });
      return found.map(({ key }) => key);
    },
  };
}

export function principal(
  organizationId: string,
  dockId: string | null = null,
  scopes: readonly Scope[] = ["artifacts:read", "artifacts:write"],
): Principal {
  return { id: `mc_${organizationId}_${dockId ?? "all"}`, organizationId, dockId, scopes };
}

function accounts(): AccountRecord[] {
  const organizations = [...new Set(Object.values(DOCKS))];
  return [
    ...organizations.map((id) => ({ kind: "organization", id, name: id, createdAt: NOON }) as const),
    ...Object.entries(DOCKS).map(
      ([id, organizationId]) => ({ kind: "dock", id, organizationId, name: id, createdAt: NOON }) as const,
    ),
  ];
}

/** The port with the hook before each of its methods; what is no method stays as it is. */
function intercepted<T extends object>(port: T, name: string, hook: Hook): T {
  const methods = Object.entries(port).map(([key, member]: [string, unknown]) => {
    if (typeof member !== "function") return [key, member];
    return [
      key,
      (...args: unknown[]) => hook(`${name}.${key}`, async () => Reflect.apply(member, port, args), args),
    ];
  });
  return Object.fromEntries(methods) as T;
}

function withoutDigests(blobs: BlobStore): BlobStore {
  return {
    ...blobs,
    async stat(key) {
      const info = await blobs.stat(key);
      return info === null ? null : { size: info.size, digest: null };
    },
  };
}

/** Bytes that are told apart by their text. */
export function bytesOf(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const hash = await crypto.subtle.digest("SHA-256", bytes);
  return Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The bytes as a store's `put` takes them. */
export async function* bodyOf(bytes: Uint8Array): AsyncGenerator<Uint8Array, void, void> {
  yield bytes;
}

/** Puts bytes where a client's signed PUT lands, without asking anyone, as an S3 URL does. */
export async function stage(world: World, upload: Artifact, bytes: Uint8Array): Promise<void> {
  await world.blobs.put(upload.stagingKey!, bodyOf(bytes), { sizeMax: 1_000 });
}

/** A completed Studio artifact of dock_a with these bytes, as the worker leaves it. */
export async function addStudioArtifact(world: World, bytes: Uint8Array<ArrayBuffer>): Promise<Artifact> {
  const digest = await sha256(bytes);
  const row = artifactRow({ id: `art_studio_${digest.slice(0, 8)}`, face: "studio", mediaType: "script" });
  const studio: Artifact = {
    ...row,
    status: "upload_completed",
    uploadId: null,
    stagingKey: null,
    size: bytes.length,
    digest,
    blobKey: `${row.storageKey}-${digest}`,
  };
  await world.blobs.put(studio.blobKey!, bodyOf(bytes), { sizeMax: 1_000 });
  await world.store.artifacts.insert(studio, { type: "artifact.completed", at: world.now(), by: null });
  return studio;
}

/** What an HTTP client does with a signed URL. @throws whatever the store's own service throws */
export function send(world: World, url: string, bytes: Uint8Array<ArrayBuffer>): Promise<Response> {
  const request = new Request(url, { method: "PUT", body: bytes });
  return world.blobs.serve!.fetch(request, world.docyard.blobHost);
}

/** The bytes behind a signed download URL. */
export async function receive(world: World, url: string): Promise<Uint8Array<ArrayBuffer>> {
  const response = await world.blobs.serve!.fetch(new Request(url), world.docyard.blobHost);
  return new Uint8Array(await response.arrayBuffer());
}
