/**
 * What a server says on stdout when it is up: where it listens and, on its first start, the credentials it made and
 * three commands that use them. This is the only place they ever appear: no log has them.
 */

import type { FirstRunDocument } from "./documents.ts";

/** One line, on every start: where this machine has it, and where clients do, if that is elsewhere. */
export function banner(version: string, here: string, url: string): string {
  return `docyard ${version} listens on ${here}${url === here ? "" : ` for ${url}`}\n`;
}

/** The credentials, and the main job in three commands for any POSIX shell with curl and sed. */
export function welcome(made: FirstRunDocument, url: string): string {
  const { client, dock, key, organization } = made;
  const artifacts = `${url}/v1/machine/docks/${dock.id}/artifacts`;
  return `
This is the first start: these credentials are shown this once.

  organization   ${organization.id}
  dock           ${dock.id}
  client id      ${client.clientId}
  client secret  ${client.clientSecret}
  Studio key     ${key.apiKey}

The whole API, to read and to try: ${url}/docs

Try it: a token; a new artifact; its bytes, and done.

TOKEN=$(curl -s ${url}/v1/oauth/token -H 'Content-Type: application/json' -d '{"grant_type":"client_credentials","client_id":"${client.clientId}","client_secret":"${client.clientSecret}"}' | ${field("access_token")})

CREATED=$(curl -s ${artifacts} -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d '{"filename":"hello.txt","contentType":"text/plain","metadata":{"from":"first start"}}'); echo "$CREATED"

echo 'Hello, docyard.' > hello.txt && curl -s -T hello.txt "$(echo "$CREATED" | ${field("uploadUrl")})" && curl -s ${artifacts}/upload/complete -H "Authorization: Bearer $TOKEN" -d "{\\"uploadId\\":\\"$(echo "$CREATED" | ${field("uploadId")})\\"}"

`;
}

/** A text field of a JSON document on one line, without jq. */
function field(name: string): string {
  return `sed -n 's/.*"${name}":"\\([^"]*\\)".*/\\1/p'`;
}
