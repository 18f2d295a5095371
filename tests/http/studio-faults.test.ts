/** Faults and figures of the Studio face: every code's status and envelope, parts that break, what is counted. */

import type { Docyard, ErrorCode } from "@docyard/core";
import { DocyardError } from "@docyard/core";
import { describe, expect, onTestFinished, test } from "vitest";
import type { StudioHarness } from "./studio-harness.ts";
import { openStudioHarness, openStudioWorld } from "./studio-harness.ts";
import type { StudioErrorJson } from "./studio-target.ts";
import { ARTIFACTS, bearer, CREATE } from "./studio-target.ts";
import type { Answer } from "./target.ts";
import { answer } from "./target.ts";

const STATUSES = {
  invalid_argument: 400,
  policy_rejected: 400,
  unauthenticated: 401,
  permission_denied: 403,
  not_found: 404,
  already_exists: 409,
  failed_precondition: 409,
  quota_exceeded: 409,
  too_large: 413,
  integrity_mismatch: 422,
  source_failed: 422,
  resource_exhausted: 429,
  data_loss: 500,
  internal: 500,
  upstream_failed: 502,
  read_only: 503,
  no_space: 507,
} satisfies Record<ErrorCode, number>;

/** The face before a core that answers every key with this error. */
async function failing(error: Error): Promise<{
  readonly target: StudioHarness;
  readonly answered: Answer<StudioErrorJson>;
}> {
  const docyard = {
    openStudio: async () => {
      throw error;
    },
  } as unknown as Docyard;
  const target = await openStudioHarness({ app: { docyard }, isHeld: false });
  onTestFinished(() => target.close());
  return { target, answered: await answer(target.fetch(ARTIFACTS, { headers: bearer("x") })) };
}

describe("every code has its status and the one envelope", () => {
  test.each(Object.entries(STATUSES) as [ErrorCode, number][])("%s is %d", async (code, status) => {
    const { target, answered } = await failing(new DocyardError(code, "What happened"));
    expect(answered.status).toBe(status);
    expect(answered.body).toEqual({ error: "What happened", message: "What happened", status });
    expect(target.lines.some(({ level }) => level === "error")).toBe(status >= 500);
  });

  test("several faults are one sentence", async () => {
    const issues = ["name is odd", "type is odd"];
    const { answered } = await failing(new DocyardError("invalid_argument", issues.join("; "), { issues }));
    const message = "name is odd; type is odd";
    expect(answered.body).toEqual({ error: message, message, status: 400 });
  });

  test("what nobody foresaw is 500, in words that tell nothing", async () => {
    const { answered } = await failing(new Error("the database at /var/lib/secret is full"));
    const message = "Internal server error";
    expect(answered).toMatchObject({ status: 500, body: { error: message, message, status: 500 } });
  });
});

test("requests are counted by the route that answered, artifacts as they are made", async () => {
  const { target, client } = await openStudioWorld();
  onTestFinished(() => target.close());
  const { body } = await client.create({ name: "n", type: "script", url: "https://e.com/a.srt" });
  await client.create({});
  await client.presign("a.srt");
  await client.get(body.id);
  await client.list();
  const metrics = await (await target.fetch("/metrics")).text();
  expect(metrics).toContain('docyard_artifacts_created_total{duplicate="false"} 1');
  const seen = [
    ["POST", CREATE, 201],
    ["POST", CREATE, 400],
    ["GET", CREATE, 200],
    ["GET", `${ARTIFACTS}/:artifactId`, 200],
    ["GET", ARTIFACTS, 200],
  ] as const;
  for (const [method, route, status] of seen) {
    const labels = `method="${method}",route="${route}",status="${status}"`;
    expect(metrics).toContain(`docyard_http_request_duration_seconds_count{${labels}} 1`);
  }
});
