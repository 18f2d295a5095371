/**
 * What is for machines and people around the API, in the document: keys, metadata, health, metrics, and this document
 * itself. None of it asks for a credential.
 */

import { SCOPES } from "@docyard/core";
import { z } from "zod";
import type { Content, Operation, Served } from "./operation.ts";
import { json } from "./operation.ts";
import { described, response, text, url } from "./shape.ts";

const PUBLIC = "https://files.example.com";

const words = (description: string) => described(z.array(z.string()), { description });

const jwks = response(
  "JsonWebKeySet",
  {
    keys: described(
      z.array(
        z.looseObject({
          kty: text("Key type"),
          kid: text("Names the key in tokens"),
        }),
      ),
      { description: "Public keys (RFC 7517)" },
    ),
  },
  "The keys that access tokens are signed with.",
);
const metadata = response(
  "AuthorizationServerMetadata",
  {
    issuer: url("Who issues the tokens"),
    token_endpoint: url("Where to get them"),
    jwks_uri: url("The keys to check them with"),
    response_types_supported: words("None: there is no authorization endpoint"),
    grant_types_supported: words("Only `client_credentials`"),
    token_endpoint_auth_methods_supported: words("How clients may authenticate"),
    scopes_supported: words("Every scope that a client may have"),
  },
  "Where OAuth clients find what they need (RFC 8414).",
);
const health = response(
  "Health",
  { status: described(z.literal("ok"), { description: "Always ok" }), version: text("Of the server") },
  "The process runs.",
);
const readiness = response(
  "Readiness",
  {
    status: described(z.enum(["ready", "unavailable"]), { description: "Whether all parts work" }),
    checks: described(z.record(z.string(), z.enum(["ok", "failing"])), { description: "Each part by name" }),
  },
  "Whether the server can do its work now.",
);

function plain(type: string, example: string): Content {
  return { [type]: { schema: { type: "string" }, example } };
}

export function serviceOperations({ hasReference, version }: Served): readonly Operation[] {
  const internal = { code: "internal", message: "Internal server error" } as const;
  const common = { method: "get", security: [], faults: [internal], isExtension: true } as const;
  return [
    {
      ...common,
      path: "/.well-known/jwks.json",
      operationId: "getKeys",
      summary: "Public keys of access tokens",
      description: "May be cached for five minutes.",
      tag: "Tokens",
      answers: {
        200: {
          description: "The keys.",
          content: json(jwks, {
            keys: [
              {
                kty: "OKP",
                crv: "Ed25519",
                x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
                kid: "2026-11",
                use: "sig",
                alg: "EdDSA",
              },
            ],
          }),
        },
      },
      faults: [internal, { code: "upstream_failed", message: "The database is out of reach: try again" }],
    },
    {
      ...common,
      path: "/.well-known/oauth-authorization-server",
      operationId: "getAuthorizationServerMetadata",
      summary: "Metadata for OAuth clients",
      description: "RFC 8414.",
      tag: "Tokens",
      answers: {
        200: {
          description: "The metadata.",
          content: json(metadata, {
            issuer: PUBLIC,
            token_endpoint: `${PUBLIC}/v1/oauth/token`,
            jwks_uri: `${PUBLIC}/.well-known/jwks.json`,
            response_types_supported: [],
            grant_types_supported: ["client_credentials"],
            token_endpoint_auth_methods_supported: ["client_secret_post", "client_secret_basic"],
            scopes_supported: SCOPES,
          }),
        },
      },
    },
    {
      ...common,
      path: "/v1/healthz",
      operationId: "getHealth",
      summary: "Liveness",
      description: "Asks nothing of anyone: restart the process when this fails.",
      tag: "Service",
      answers: { 200: { description: "Alive.", content: json(health, { status: "ok", version }) } },
    },
    {
      ...common,
      path: "/v1/readyz",
      operationId: "getReadiness",
      summary: "Readiness",
      description: "Asks every part, at most once a second: route no requests here while this fails.",
      tag: "Service",
      answers: {
        200: {
          description: "Ready.",
          content: json(readiness, { status: "ready", checks: { store: "ok", blobs: "ok" } }),
        },
        503: {
          description: "Not ready; why is in the log.",
          content: json(readiness, { status: "unavailable", checks: { store: "failing", blobs: "ok" } }),
        },
      },
    },
    {
      ...common,
      path: "/metrics",
      operationId: "getMetrics",
      summary: "Metrics",
      description: "In Prometheus' text format.",
      tag: "Service",
      answers: {
        200: {
          description: "The figures.",
          content: plain(
            "text/plain",
            "# TYPE docyard_tokens_issued_total counter\ndocyard_tokens_issued_total 1\n",
          ),
        },
      },
    },
    {
      ...common,
      path: "/openapi.json",
      operationId: "getDocument",
      summary: "This document",
      description: "OpenAPI 3.1, made from the shapes that requests are parsed with.",
      tag: "Service",
      answers: {
        200: {
          description: "The document.",
          content: json(
            { type: "object", required: ["openapi", "info", "paths"] },
            {
              openapi: "3.1.0",
              info: { title: "docyard", version },
              paths: {},
            },
          ),
        },
      },
    },
    {
      ...common,
      path: "/docs",
      operationId: "getReference",
      summary: "This document to read",
      description: "A page that asks nothing of any other host.",
      tag: "Service",
      answers: { 200: { description: "The page.", content: plain("text/html", "<!doctype html>…") } },
    },
    ...(hasReference
      ? [
          {
            ...common,
            path: "/docs/reference.js",
            operationId: "getReferenceScript",
            summary: "The script of the page",
            description: "Scalar's API reference, served from here.",
            tag: "Service",
            answers: { 200: { description: "The script.", content: plain("text/javascript", "…") } },
          } as const,
        ]
      : []),
  ];
}
