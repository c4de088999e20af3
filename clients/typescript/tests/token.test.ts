import { execFileSync } from "node:child_process";
import { generateKeyPairSync, sign, type KeyObject } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";

import { domainRef, seconds, type Client } from "../src/index.js";
import { JobState } from "../src/v1.js";
import { Bench, eventually, failure, live, PYTHON, ROOT } from "./server.js";

const ISSUER = "https://idp.example.org";
const HOUR = 3600;
const bench = new Bench();
const ours = generateKeyPairSync("ec", { namedCurve: "P-256" });
let address = "";

beforeAll(async () => {
  const files = join(bench.path, "tls");
  const keys = join(bench.path, "jwks.json");
  execFileSync(PYTHON, ["-m", "tests.beds.certificates", files], { cwd: ROOT });
  writeFileSync(keys, JSON.stringify({ keys: [{ ...ours.publicKey.export({ format: "jwk" }), kid: "1", use: "sig" }] }));
  const hosts = { lab: "sim://lab/?domains=2&running=2", slow: "sim://slow/?domains=2&running=2&save_seconds=3600" };
  const jwt = { issuer: ISSUER, audience: "virtrpc", jwks_file: keys, leeway_seconds: 0 };
  const policy = bench.policy({ [`jwt:${ISSUER}#alice`]: "operator" });
  const tls = ["--tls-certificate", join(files, "server.pem"), "--tls-key", join(files, "server.key")];
  const server = await bench.server(hosts, { jwt, policy }, "--listen", "127.0.0.1:0", ...tls);
  address = server.tcp;
  await live(as(() => token(HOUR)));
});
afterAll(() => bench.end());

/** A client that says it with this. */
function as(from: () => string): Client {
  return bench.client(address, { tls: { ca: readFileSync(join(bench.path, "tls/ca.pem")) }, token: from });
}

/** Alice's, for so many seconds from now. */
function token(lasts: number, key: KeyObject = ours.privateKey): string {
  const claims = { iss: ISSUER, aud: "virtrpc", sub: "alice", exp: Math.floor(Date.now() / 1000) + lasts };
  const parts = [{ alg: "ES256", kid: "1", typ: "JWT" }, claims].map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"));
  const signature = sign("sha256", Buffer.from(parts.join(".")), { key, dsaEncoding: "ieee-p1363" });
  return [...parts, signature.toString("base64url")].join(".");
}

test("the main job is done as whoever the token says", async () => {
  const save = await as(() => token(HOUR)).managedSaveDomain({ domain: domainRef("lab/guest-1") });
  expect(await save.wait()).toMatchObject({ state: JobState.SUCCEEDED, owner: `jwt:${ISSUER}#alice` });
});

test.each<[string, () => string]>([
  ["that has ended", () => token(-HOUR)],
  ["of somebody else's making", () => token(HOUR, generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey)],
])("a token %s lets nobody in", async (_, from) => {
  const error = await failure(as(from).startDomain({ domain: domainRef("lab/guest-2") }));
  expect(error).toMatchObject({ kind: "Unauthenticated", reason: "UNAUTHENTICATED" });
});

test("a job and a watch are followed over the end of a token, with the next one", async () => {
  const told: string[] = [];
  const options = { onBroken: () => told.push("broken") };
  let lasts = 4;
  const client = as(() => token(lasts));
  const save = await client.managedSaveDomain({ domain: domainRef("slow/guest-1") }, options);
  const ended = failure(save.wait());
  const watched: string[] = [];
  const watching = (async () => {
    for await (const batch of client.watchDomains({ heartbeat: seconds(1) }, { onBroken: (error) => watched.push(error?.kind ?? "") })) {
      if (watched.length > 0) {
        return batch.reset;
      }
      lasts = HOUR;
    }
    return true;
  })();
  expect(await watching).toBe(false);
  await eventually("the job's token to end", () => told.length > 0);
  expect(watched).toEqual(["Unauthenticated"]);
  await save.cancel();
  expect((await ended).kind).toBe("Cancelled");
});
