/** The one docyard of a Next process, opened by the first request. Next loads route files again and again. */

import { type LocalDocyard, localDocyard } from "@docyard/adapters/local";
import type { Background } from "@docyard/core";
import { createApp } from "@docyard/server";
import { Hono } from "hono";

interface Opened {
  readonly yard: LocalDocyard;
  readonly background: Background;
  readonly fetch: (request: Request) => Response | Promise<Response>;
}

async function open(): Promise<Opened> {
  const yard = await localDocyard({
    folder: process.env["FOLDER"] ?? "docyard",
    publicUrl: process.env["PUBLIC_URL"] ?? "http://localhost:3000/files",
  });
  const firstRun = await yard.provisioning.firstRun();
  if (firstRun !== null) console.log("first start:", JSON.stringify(firstRun));
  const app = new Hono().mount("/files", createApp({ ...yard, version: "1.0.0" }).fetch);
  return { yard, background: yard.docyard.runInBackground(), fetch: app.fetch };
}

/** Modules come and go with each change in development; what is global stays. */
const kept = globalThis as { docyard?: Promise<Opened> };

export function files(): Promise<Opened> {
  return (kept.docyard ??= open());
}
