/**
 * The Studio face's use cases: presign an upload, create an artifact from exactly one source, show it. Creating only
 * writes a row and rings; everything that takes time is the worker's, in `ingest.ts`.
 */

import type { ApiKey, Dock, Organization, Principal } from "./access.ts";
import type { Artifact, ArtifactSummary, Fragment, MediaType, Source, VisibleStatus } from "./artifact.ts";
import { filenameFault, VISIBLE_STATUSES } from "./artifact.ts";
import { presignedKey, studioStorageKey } from "./blob-keys.ts";
import type { Listed } from "./catalog.ts";
import { getArtifact, listArtifacts, removeArtifact } from "./catalog.ts";
import type { Context } from "./context.ts";
import { invalid, newEvent, ring, signDownload } from "./context.ts";
import { DocyardError } from "./errors.ts";
import { requireIntake, requireWritable } from "./intake.ts";
import type { PageNumbers } from "./page.ts";
import type { SignedUrl } from "./ports.ts";
import { sha256 } from "./sha256.ts";

export interface StudioCreateInput {
  /** Display name; not part of any path. */
  readonly name: string;
  readonly type: MediaType;
  /** Exactly one of these three (contract 1H); null counts as absent (contract 45). */
  readonly s3Path?: string | null;
  readonly url?: string | null;
  readonly fragments?: readonly StudioFragmentInput[] | null;
}

export interface StudioFragmentInput {
  /** Exactly one of these two. */
  readonly s3Path?: string | null;
  readonly url?: string | null;
  /** Seconds, >= 0. */
  readonly startTime: number;
}

export interface StudioListInput {
  readonly status?: VisibleStatus;
  readonly type?: MediaType;
  readonly limit?: number;
  readonly offset?: number;
}

/** An artifact as the Studio face shows it. */
export interface StudioListed<A extends ArtifactSummary = ArtifactSummary> extends Listed<A> {
  /** The key that made it; null when that key is gone. */
  readonly creator: { readonly id: string; readonly name: string } | null;
}

/** What an API key opens: its own dock, seen through the Studio face. */
export interface StudioDock {
  readonly dock: Dock;
  readonly organization: Organization;
  readonly key: ApiKey;
  /**
   * A place to PUT a local file to, and the `s3Path` that names it in `create`. The path is this dock's alone (ruling 13).
   * @throws DocyardError `invalid_argument` for a bad file name; `read_only` or `no_space`.
   */
  presign(fileName: string): Promise<{ readonly s3Path: string; readonly upload: SignedUrl }>;
  /**
   * Registers the artifact and starts fetching in the background; the result is always `created` (ruling 10).
   * @throws DocyardError `invalid_argument` with one issue per fault; `quota_exceeded`; `read_only` or `no_space`.
   */
  create(input: StudioCreateInput): Promise<Artifact>;
  /** @throws DocyardError `not_found` for what is missing, deleted, or another company's. */
  get(id: string): Promise<StudioListed<Artifact>>;
  /** Newest first, in every status unless one is named. */
  list(
    input: StudioListInput,
  ): Promise<{ readonly items: readonly StudioListed[]; readonly page: PageNumbers }>;
  /** Deletes, also what is still being fetched: its worker then writes nothing. @throws DocyardError `not_found`; `read_only`. */
  remove(id: string): Promise<void>;
}

/** Longest display name, in characters. */
export const STUDIO_NAME_LENGTH_MAX = 1_000;
/** Longest `url` or `s3Path`, in characters: what servers and proxies accept. */
export const LOCATION_LENGTH_MAX = 8_192;
/** Longest JSON of a source without fragments, in bytes: of its location no character takes more than six. */
export const SINGLE_SOURCE_BYTES_MAX: number = 6 * LOCATION_LENGTH_MAX + 64;
/** Most fragments of one artifact: each is one fetch. */
export const FRAGMENTS_MAX = 1_000;
/** Latest position of a fragment, in seconds: a year of film; larger numbers are a mistake in the unit. */
export const START_TIME_MAX = 31_536_000;

/** The Studio face of one dock. `key` and `organization` are what the credential led to. */
export function studioDock(
  context: Context,
  principal: Principal,
  account: { readonly dock: Dock; readonly organization: Organization; readonly key: ApiKey },
): StudioDock {
  const { dock, key } = account;
  const creators = creatorsOf(context, key);
  return {
    ...account,

    async presign(fileName) {
      const fault = filenameFault(fileName);
      if (fault !== null) throw invalid([fault.replace("filename", "fileName")]);
      await requireIntake(context, 0);
      const id = context.ids.ulid("temp");
      const upload = await context.blobs.signPut(presignedKey(dock.id, id), {
        expiresAt: context.now() + context.settings.uploadWindowMs,
        sizeMax: context.settings.sizeMax,
        artifactId: id,
      });
      const seal = await nameSeal(dock.id, id, fileName);
      return { s3Path: `s3://${context.settings.bucketName}/temp/${id}-${seal}/${fileName}`, upload };
    },

    async create(input) {
      const source = await checkSource(context, dock, key, input);
      await requireIntake(context, 0);
      const at = context.now();
      const id = context.ids.hex24();
      const artifact: Artifact = {
        id,
        dockId: dock.id,
        face: "studio",
        version: 1,
        status: "created",
        filename: input.name,
        contentType: "application/octet-stream",
        size: null,
        digest: null,
        metadata: {},
        mediaType: input.type,
        source,
        durationMs: null,
        failure: null,
        uploadId: null,
        stagingKey: null,
        storageKey: studioStorageKey(dock.id, id, input.type),
        blobKey: null,
        sharesBlob: false,
        duplicateOf: null,
        attempts: 0,
        dueAt: at,
        createdBy: key.id,
        createdAt: at,
        updatedAt: at,
      };
      await context.artifacts.insert(artifact, newEvent(context, "artifact.created", key.id), dock.quota);
      await ring(context, id);
      return artifact;
    },

    async get(id) {
      const artifact = await getArtifact(context, dock, "studio", id);
      const creator = await creators(artifact.createdBy);
      return { artifact, download: await signDownload(context, artifact, principal), creator };
    },

    async list({ status, type, ...paging }) {
      const { items, page } = await listArtifacts(context, dock, "studio", principal, {
        ...paging,
        statuses: status === undefined ? VISIBLE_STATUSES : [status],
        ...(type === undefined ? {} : { mediaType: type }),
      });
      const listed: StudioListed[] = [];
      for (const item of items) {
        listed.push({ ...item, creator: await creators(item.artifact.createdBy) });
      }
      return { items: listed, page };
    },

    async remove(id) {
      requireWritable(context);
      await removeArtifact(context, dock, "studio", principal, id);
    },
  };
}

/** Looks up who made an artifact, each key once. */
function creatorsOf(context: Context, own: ApiKey): (keyId: string) => Promise<StudioListed["creator"]> {
  const known = new Map<string, StudioListed["creator"]>([[own.id, { id: own.id, name: own.name }]]);
  return async (keyId) => {
    let creator = known.get(keyId);
    if (creator === undefined) {
      const key = await context.accounts.find("key", { id: keyId });
      creator = key === null ? null : { id: key.id, name: key.name };
      known.set(keyId, creator);
    }
    return creator;
  };
}

const PRESIGNED_PATH = /^temp\/(temp_[0-9A-Z]{26})-([0-9a-f]{16})\/([^/]+)$/;

/**
 * The staging key behind an `s3Path` that `presign` gave to this very dock, or null for any other path. Nothing is
 * stored for it: the dock and file name are sealed into the path, so another dock's path never resolves here.
 */
export async function resolvePresigned(
  context: Context,
  dockId: string,
  s3Path: string,
): Promise<string | null> {
  const location = parseS3Path(s3Path);
  if (location === null || location.bucket !== context.settings.bucketName) return null;
  const parts = PRESIGNED_PATH.exec(location.key);
  if (parts === null) return null;
  const [, id, seal, fileName] = parts as unknown as [string, string, string, string];
  return seal === (await nameSeal(dockId, id, fileName)) ? presignedKey(dockId, id) : null;
}

/** Ties a presigned path to its dock and file name. Not a secret: only the dock's own key can use what it names. */
async function nameSeal(dockId: string, id: string, fileName: string): Promise<string> {
  return (await sha256(JSON.stringify([dockId, id, fileName]))).slice(0, 16);
}

/** `s3://bucket/key`, or null for anything else. Buckets of old, and of other servers, have capitals and underscores. */
export function parseS3Path(s3Path: string): { readonly bucket: string; readonly key: string } | null {
  const parts = /^s3:\/\/([A-Za-z0-9][A-Za-z0-9._-]{1,254})\/(.+)$/su.exec(s3Path);
  return parts === null ? null : { bucket: parts[1]!, key: parts[2]! };
}

async function checkSource(
  context: Context,
  dock: Dock,
  key: ApiKey,
  input: StudioCreateInput,
): Promise<Source> {
  const issues: string[] = [];
  if (input.name.trim() === "" || input.name.length > STUDIO_NAME_LENGTH_MAX || !input.name.isWellFormed()) {
    issues.push(`name must have 1 to ${STUDIO_NAME_LENGTH_MAX} characters`);
  } else if (/\p{Cc}/u.test(input.name)) {
    issues.push("name must not contain control characters");
  }

  const single = async (
    at: string,
    { url, s3Path }: { readonly url?: string | null; readonly s3Path?: string | null },
  ): Promise<Fragment["source"] | null> => {
    if (typeof url === "string") {
      const fault = urlFault(url);
      if (fault !== null) issues.push(`${at}url ${fault}`);
      return { kind: "url", url };
    }
    if (typeof s3Path === "string") {
      const fault = await s3PathFault(context, dock, key, s3Path);
      if (fault !== null) issues.push(`${at}s3Path ${fault}`);
      return { kind: "s3", s3Path };
    }
    return null;
  };

  const { s3Path = null, url = null, fragments = null } = input;
  const named = [s3Path, url, fragments].filter((source) => source !== null).length;
  let source: Source | null = null;
  if (named !== 1) {
    issues.push("exactly one of s3Path, url or fragments must be given");
  } else if (fragments === null) {
    source = await single("", { url, s3Path });
  } else {
    if (input.type === "script") issues.push("fragments are not supported for type script");
    if (fragments.length === 0) issues.push("fragments must not be empty");
    if (fragments.length > FRAGMENTS_MAX) {
      throw invalid([...issues, `fragments must be at most ${FRAGMENTS_MAX}`]);
    }
    const checked: Fragment[] = [];
    for (const [index, fragment] of fragments.entries()) {
      const at = `fragments[${index}].`;
      const { startTime } = fragment;
      if (!(Number.isFinite(startTime) && startTime >= 0 && startTime <= START_TIME_MAX)) {
        issues.push(`${at}startTime must be a number of seconds from 0 to ${START_TIME_MAX}`);
      }
      if ((fragment.url ?? null) !== null && (fragment.s3Path ?? null) !== null) {
        issues.push(`${at}url and ${at}s3Path cannot be combined`);
        continue;
      }
      const one = await single(at, fragment);
      if (one === null) issues.push(`${at}url or ${at}s3Path must be given`);
      else checked.push({ source: one, startTime });
    }
    source = { kind: "fragments", fragments: checked };
  }
  if (issues.length > 0 || source === null) throw invalid(issues);
  return source;
}

/** What is wrong with a URL as text. Whether its host may be reached is decided when it is: names change. */
function urlFault(text: string): string | null {
  if (text === "") return "should not be empty";
  if (text.length > LOCATION_LENGTH_MAX) return `must be at most ${LOCATION_LENGTH_MAX} characters`;
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || (url.protocol !== "http:" && url.protocol !== "https:")) {
    return "must be an absolute http or https URL";
  }
  if (url.username !== "" || url.password !== "") return "must not contain credentials";
  return null;
}

async function s3PathFault(
  context: Context,
  dock: Dock,
  key: ApiKey,
  s3Path: string,
): Promise<string | null> {
  if (s3Path === "") return "should not be empty";
  if (s3Path.length > LOCATION_LENGTH_MAX) return `must be at most ${LOCATION_LENGTH_MAX} characters`;
  if (parseS3Path(s3Path) === null) return "must be s3://bucket/key";
  if ((await resolvePresigned(context, dock.id, s3Path)) !== null) return null;
  return key.s3Credentials === null
    ? "is neither from Get Presigned Upload URL nor readable: this API key has no S3 credentials"
    : null;
}

/** @throws DocyardError `unauthenticated` in one sentence for every way a key can be wrong. */
export function badApiKey(): DocyardError {
  return new DocyardError("unauthenticated", "Missing or invalid API key");
}
