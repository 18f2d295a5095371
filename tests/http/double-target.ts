/**
 * The published test double as one more target: what the suites ask of a real server they ask of it, too. The double
 * turns its clock asynchronously; requests that come meanwhile wait for it.
 */

import { randomUUID } from "node:crypto";
import type { TestDouble } from "@docyard/adapters/testing";
import { testDouble } from "@docyard/adapters/testing";
import { createApp } from "@docyard/server";
import { operatorOf } from "./harness.ts";
import { MEDIA } from "./studio-media.ts";
import type { StudioTarget } from "./studio-target.ts";
import type { Clock } from "./target.ts";

export interface DoubleTarget extends StudioTarget {
  readonly double: TestDouble;
  readonly clock: Clock;
}

export async function openDouble(): Promise<DoubleTarget> {
  const double = await testDouble(createApp, { media: "text" });
  const { provisioning, dock } = double;
  let turning: Promise<void> = Promise.resolve();
  return {
    double,
    clock: {
      now: () => double.now(),
      advance(ms) {
        turning = turning.then(() => double.advance(ms));
      },
    },
    sizeMax: double.docyard.settings.sizeMax,
    async fetch(pathOrUrl, init) {
      await turning;
      return double.fetch(pathOrUrl, init);
    },
    operator: {
      ...operatorOf(provisioning, dock.organizationId),
      async createKey({ name, dockId }) {
        const { key, apiKey } = await provisioning.createKey({ name, dockId });
        return { id: key.id, name, apiKey };
      },
    },
    async publish(bytes, name) {
      const url = `https://cdn.example.com/${randomUUID()}/${name}`;
      double.sources.set(url, bytes);
      return url;
    },
    deadUrl: () => `https://cdn.example.com/${randomUUID()}/gone.mp4`,
    media: async (kind) => MEDIA[kind](),
    settle: () => double.work(),
    async close() {
      await turning;
      await double.close();
    },
  };
}
