import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";

import { domainRef } from "../../src/index.js";
import type { Tls } from "../../src/node.js";
import { JobState } from "../../src/v1.js";
import { Bench, failure, GUARD } from "../server.js";
import { stage, type Stage } from "./stage.js";

const SPIFFE_ID = "spiffe://example.org/ns/lab/sa/operator";
const bench = new Bench();
let play: Stage;

const pem = (name: string): Buffer => readFileSync(join(bench.path, name));
const as = (name: string): Tls => ({ ca: pem("mesh-ca.pem"), cert: pem(`${name}.pem`), key: pem(`${name}.key`) });

beforeAll(async () => {
  play = await stage(bench.path);
});
afterAll(async () => {
  await play.end();
  await bench.end();
});

test("a job that is begun through Envoy belongs to whose certificate Envoy has seen", async () => {
  const client = bench.client(play.envoy, { tls: as("client"), timeoutMs: GUARD });
  const save = await client.managedSaveDomain({ domain: domainRef("lab/guest-1") });
  expect(await save.wait()).toMatchObject({ state: JobState.SUCCEEDED, owner: SPIFFE_ID });
});

test.each<[string, () => Tls]>([
  ["without a certificate", () => ({ ca: pem("mesh-ca.pem") })],
  ["with an expired one", () => as("expired")],
  ["of another authority", () => as("other")],
])("a client %s does not get through Envoy", async (_, tls) => {
  const error = await failure(bench.client(play.envoy, { tls: tls(), timeoutMs: 500 }).getHost({ host: "lab" }));
  expect(error).toMatchObject({ kind: "ServerUnavailable", reason: "" });
});
