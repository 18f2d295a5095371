/** The types of reference.mjs, which is plain JavaScript because the bundler of the built program is. */
export function packedReference(): Promise<{ readonly bytes: Uint8Array; readonly file: string }>;
