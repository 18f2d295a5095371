/** What this package offers: two clients, two helpers, one error, and the types of all of it. Everything else is internal. */

export type { Download, DownloadableArtifact, DownloadOptions } from "./download.ts";
export type { DocyardErrorCode } from "./errors.ts";
export { DocyardApiError } from "./errors.ts";
export type { CallOptions, ConnectionOptions } from "./http.ts";
export type { JsonObject, JsonValue } from "./json.ts";
export type { Client, ClientOptions, DockClient, UploadOptions } from "./machine.ts";
export { createClient } from "./machine.ts";
export type {
  Artifact,
  ArtifactQuery,
  ArtifactStatus,
  CreatedArtifact,
  CreateInput,
  ListedArtifact,
  Page,
  PageQuery,
  PendingArtifact,
  StatedArtifact,
  StoredArtifact,
} from "./machine-wire.ts";
export type { RetryOptions, WaitOptions } from "./retry.ts";
export type { Progress, SendOptions, UploadTarget } from "./send.ts";
export { sendBytes } from "./send.ts";
export type { ByteStream, Source } from "./source.ts";
export { sha256 } from "./source.ts";
export type { StudioClient, StudioClientOptions, StudioUploadOptions, StudioWaitOptions } from "./studio.ts";
export { createStudioClient } from "./studio.ts";
export type {
  Fragment,
  Location,
  MediaType,
  Presigned,
  StudioArtifact,
  StudioCreateInput,
  StudioPage,
  StudioPageQuery,
  StudioQuery,
} from "./studio-wire.ts";
export type { Scope } from "./token.ts";
