/**
 * What becomes of an S3 server's errors: which are for good, which pass, and in which words.
 * That objects are read whole, and with real credentials, is in tests/services/s3-source.test.ts.
 */

import { s3Source } from "@docyard/adapters/fetch/s3";
import type { RequestListener } from "node:http";
import { afterEach, expect, test, vi } from "vitest";
import type { Origin } from "./fetch-origin.ts";
import { PRIVATE, faultOf, startOrigin } from "./fetch-origin.ts";

const closing: { close(): Promise<void> }[] = [];
afterEach(async () => {
  vi.unstubAllEnvs();
  for (const one of closing.splice(0)) await one.close();
});

async function server(handle: RequestListener): Promise<Origin> {
  const started = await startOrigin(handle, PRIVATE);
  closing.push(started);
  return started;
}

function open(credentials: Record<string, string>): Promise<unknown> {
  const source = s3Source();
  closing.push(source);
  const text = JSON.stringify({ accessKeyId: "AK", secretAccessKey: "not-to-be-told", ...credentials });
  return source.open("s3://my-bucket/film.mp4", text, { sizeMax: 1_000 });
}

test.each([
  [404, "NoSuchKey", "source_failed", "Bucket my-bucket: there is no such object"],
  [404, "NoSuchBucket", "source_failed", "Bucket my-bucket: there is no such bucket"],
  [403, "AccessDenied", "source_failed", /: the S3 credentials of this API key are refused$/],
  [403, "InvalidObjectState", "source_failed", /: the object is archived, and must be restored before/],
  [400, "ExpiredToken", "source_failed", /: the S3 credentials of this API key have expired$/],
  [400, "AuthorizationHeaderMalformed", "source_failed", /: .* check the region and endpoint/],
  [301, "PermanentRedirect", "source_failed", /: .* check the region and endpoint/],
  [403, "RequestTimeTooSkewed", "upstream_failed", "Bucket my-bucket could not be read"],
  [400, "RequestTimeout", "upstream_failed", "Bucket my-bucket could not be read"],
  [500, "InternalError", "upstream_failed", "Bucket my-bucket could not be read"],
])("%i %s is %s", async (status, name, code, message) => {
  const body = `<?xml version="1.0"?><Error><Code>${name}</Code><Message>not-to-be-told</Message></Error>`;
  const { url } = await server((_, response) => response.writeHead(status).end(body));
  const fault = await faultOf(open({ region: "eu-central-1", endpoint: url }));
  expect(fault).toMatchObject({
    code,
    message: typeof message === "string" ? message : expect.stringMatching(message),
  });
  expect(String(fault)).not.toContain("not-to-be-told");
});

test("credentials without a region say so, where nothing else names one", async () => {
  for (const name of ["AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"]) vi.stubEnv(name, undefined);
  for (const name of ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"]) vi.stubEnv(name, "/dev/null");
  expect(await faultOf(open({}))).toMatchObject({
    code: "source_failed",
    message: "Bucket my-bucket: the S3 credentials of this API key name no region",
  });
});
