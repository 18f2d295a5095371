/** The public names of @docyard/core: all that the domain's own files export, and of the others those listed here. */

export * from "./errors.ts";
export * from "./json.ts";
export * from "./artifact.ts";
export * from "./access.ts";
export * from "./filter.ts";
export * from "./page.ts";
export * from "./id.ts";
export * from "./quota.ts";
export type * from "./ports.ts";
export type * from "./ports-ingest.ts";
export type { IngestSettings, Settings, SettingsInput } from "./settings.ts";
export { DEFAULT_SETTINGS } from "./settings.ts";
export { CHORES_INTERVAL_MS, SWEEP_INTERVAL_MS } from "./background.ts";
export type { Background, BackgroundOptions, BackgroundReport } from "./background.ts";
export type { Completed, CompleteInput, Created, CreateInput } from "./upload.ts";
export { CONTENT_TYPE } from "./upload.ts";
export type { Listed, ListInput } from "./catalog.ts";
export type {
  StudioCreateInput,
  StudioDock,
  StudioFragmentInput,
  StudioListed,
  StudioListInput,
} from "./studio.ts";
export {
  FRAGMENTS_MAX,
  LOCATION_LENGTH_MAX,
  parseS3Path,
  SINGLE_SOURCE_BYTES_MAX,
  START_TIME_MAX,
  STUDIO_NAME_LENGTH_MAX,
} from "./studio.ts";
export type { IngestOptions, IngestOutcome } from "./ingest.ts";
export type { GarbageOptions, GarbageReport } from "./gc.ts";
export type {
  ArchiveCounts,
  ArchiveProgress,
  ArchiveReader,
  ArchiveWriter,
  Manifest,
  RecordsFile,
} from "./archive.ts";
export { MANIFEST_BYTES_MAX, readManifest, RECORDS_BYTES_MAX } from "./archive.ts";
export type {
  BackupOptions,
  BackupReport,
  CopyOptions,
  CopyPorts,
  LostArtifact,
  RestoreReport,
} from "./backup.ts";
export { backup, restore, RESTORE_MARK } from "./backup.ts";
export { FINAL_PREFIX } from "./blob-keys.ts";
export type { DigestMap } from "./digest-map.ts";
export { digestMap } from "./digest-map.ts";
export type { ExportReport, ImportOptions, ImportReport } from "./transfer.ts";
export { exportDock, importDock } from "./transfer.ts";
export type { Damage, Orphan, VerifyOptions, VerifyPorts, VerifyReport, VerifyState } from "./verify.ts";
export { isInSample, verify } from "./verify.ts";
export type { Keyring, Sealer } from "./secrets.ts";
export { createSealer } from "./secrets.ts";
export type { RetentionOptions, RetentionReport } from "./retention.ts";
export type { SweepOptions, SweepReport } from "./upkeep.ts";
export * from "./docyard.ts";
export * from "./provision.ts";
export type { RotateOptions, Rotated } from "./server-keys.ts";
export { activeKeys, urlSecretOf } from "./server-keys.ts";
export type { Newest, SigningKeys, SigningKeysOptions } from "./signing-keys.ts";
export { createSigningKeys, SIGNING_KEYS_AGE_MAX_MS, SIGNING_KEYS_STALE_MAX_MS } from "./signing-keys.ts";
