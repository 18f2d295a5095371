/** The Studio face's words as this client gives and gets them (contract 1H to 1J). Types only. */

import type { ArtifactStatus } from "./machine-wire.ts";

export type MediaType = "video" | "audio" | "script";

/** A Studio artifact; what is not known yet is null. */
export interface StudioArtifact {
  readonly id: string;
  readonly name: string;
  readonly type: MediaType;
  readonly status: ArtifactStatus;
  readonly uploadMethod: "direct_url" | "fragments";
  /** Bytes; null until `upload_completed`. */
  readonly size: number | null;
  /** Seconds; null until `upload_completed`, and always for scripts. */
  readonly duration: number | null;
  /** Why it failed; null unless the status is `upload_failed`. */
  readonly errorMessage: string | null;
  /** The server's own key, without bucket and scheme; for people to read. */
  readonly s3Path: string;
  readonly s3Bucket: string;
  /** ISO 8601, UTC, with milliseconds. */
  readonly createdAt: string;
  readonly updatedAt: string;
  readonly company?: { readonly id: string; readonly name: string };
  /** The API key that made it. */
  readonly createdBy?: { readonly id: string; readonly name: string };
  /** Signed: whoever has it can read the bytes. Only once there are any, and not in `create`'s answer. */
  readonly downloadUrl?: string;
  /** When `downloadUrl` ends. */
  readonly expiresAt?: string;
}

/** Where one piece of media is: exactly one of a public URL and an S3 path. */
export type Location =
  | { readonly url: string; readonly s3Path?: never }
  /** From `presign`, or `s3://bucket/key` of a bucket for which the API key has credentials. */
  | { readonly s3Path: string; readonly url?: never };

/** A part of a whole that the server joins. */
export type Fragment = Location & {
  /** Where it begins on the output's timeline, in seconds, at least 0. */
  readonly startTime: number;
};

/** What to make: a name, and exactly one source. Scripts have no fragments. */
export type StudioCreateInput =
  | (Location & { readonly name: string; readonly type: MediaType; readonly fragments?: never })
  | {
      readonly name: string;
      readonly type: Exclude<MediaType, "script">;
      readonly fragments: readonly Fragment[];
      readonly url?: never;
      readonly s3Path?: never;
    };

/** Somewhere to send a file. */
export interface Presigned {
  /** Names the file in `create`. */
  readonly s3Path: string;
  /** Signed: as `uploadUrl` for `sendBytes`. */
  readonly presignedUploadUrl: string;
  readonly expiresAt: string;
  /** Must be sent along, where there are any. */
  readonly uploadHeaders?: Readonly<Record<string, string>>;
}

/** Which artifacts, newest first. All conditions must hold. */
export interface StudioQuery {
  /** Default: any. */
  readonly status?: ArtifactStatus | undefined;
  readonly type?: MediaType | undefined;
  /** Rows per page, at most 1000. Default 20 for `list`, 100 for `artifacts`. */
  readonly limit?: number | undefined;
}

export interface StudioPageQuery extends StudioQuery {
  /** From 1. */
  readonly page?: number | undefined;
}

export interface StudioPage {
  readonly data: readonly StudioArtifact[];
  readonly meta: {
    /** Rows that match, on all pages. */
    readonly total: number;
    readonly page: number;
    readonly pageSize: number;
    readonly hasMore: boolean;
  };
}
