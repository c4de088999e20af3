import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";

import { domainRef } from "../src/index.js";
import { connect, type Tls } from "../src/node.js";
import { JobState } from "../src/v1.js";
import { Bench, eventually, failure, live, PYTHON, ROOT } from "./server.js";

const bench = new Bench();
const SPIFFE_ID = "spiffe://example.org/ns/lab/sa/operator";
let address = "";

const pem = (name: string): Buffer => readFileSync(join(bench.path, "tls", name));
const as = (name: string): Tls => ({ ca: pem("ca.pem"), cert: pem(`${name}.pem`), key: pem(`${name}.key`) });

beforeAll(async () => {
  const files = join(bench.path, "tls");
  execFileSync(PYTHON, ["-m", "tests.beds.certificates", files], { cwd: ROOT });
  const policy = bench.policy({ [SPIFFE_ID]: "operator", "dns:operator.example.org": "viewer" });
  const tls = ["--tls-certificate", join(files, "server.pem"), "--tls-key", join(files, "server.key"), "--tls-client-ca", join(files, "ca.pem")];
  const server = await bench.server({ lab: "sim://lab/?domains=2&running=2" }, { policy }, "--listen", "127.0.0.1:0", ...tls);
  address = server.tcp;
  await live(bench.client(address, { tls: as("client") }));
});
afterAll(() => bench.end());

test("a client with a certificate runs the main job, which is its own by its name", async () => {
  const client = bench.client(address, { tls: as("client") });
  const [domain] = await client.listDomains().all();
  const save = await client.managedSaveDomain({ domain: domainRef(domain?.name ?? "") });
  expect(await save.wait()).toMatchObject({ state: JobState.SUCCEEDED, owner: SPIFFE_ID });
});

test("a client with a role that is too low reads, and changes nothing; one without any gets nowhere", async () => {
  const viewer = bench.client(address, { tls: as("dns") });
  expect(await viewer.listDomains().all()).toHaveLength(2);
  expect(await failure(viewer.suspendDomain({ domain: domainRef("lab/guest-2") }))).toMatchObject({
    kind: "PermissionDenied",
    reason: "PERMISSION_DENIED",
  });
  expect(
    (
      await failure(
        bench
          .client(address, { tls: as("cn") })
          .listHosts()
          .all(),
      )
    ).kind,
  ).toBe("PermissionDenied");
});

test("the server's certificate may have another name than the address, where that is said", async () => {
  const client = bench.client(address, { tls: { ...as("client"), serverName: "virtrpc.test" } });
  expect((await client.getHost({ host: "lab" })).host?.name).toBe("lab");
  const other = bench.client(address, { tls: { ...as("client"), serverName: "elsewhere.test" }, timeoutMs: 500 });
  expect((await failure(other.getHost({ host: "lab" }))).message).toContain("elsewhere.test");
});

test("certificates are asked for anew whenever a connection is made", async () => {
  let asked = 0;
  const tls = (): Tls => {
    asked += 1;
    return as("client");
  };
  const proxied = await bench.proxy(address);
  const client = bench.client(proxied.address, { tls });
  await client.getHost({ host: "lab" });
  await proxied.cut();
  await eventually("an answer", () => client.getHost({ host: "lab" }).catch(() => undefined));
  // Once beforehand, to see whether they can be read.
  expect(asked).toBe(3);
});

test("the environment says which certificates, where the program does not", async () => {
  const file = (name: string): string => join(bench.path, "tls", name);
  const variables = { VIRTRPC_ADDRESS: address, VIRTRPC_CA: file("ca.pem"), VIRTRPC_CERTIFICATE: file("dns.pem"), VIRTRPC_KEY: file("dns.key") };
  Object.entries(variables).forEach(([name, value]) => vi.stubEnv(name, value));
  const client = connect();
  expect((await client.getHost({ host: "lab" })).host?.name).toBe("lab");
  client.close();
  vi.stubEnv("VIRTRPC_KEY", file("none-such.key"));
  expect(() => connect()).toThrow("none-such.key");
  vi.unstubAllEnvs();
});

test("certificates that cannot be had are the error of the calls that need them", async () => {
  let lost = false;
  const tls = (): Tls => {
    if (lost) {
      throw new Error("the vault is closed");
    }
    return as("client");
  };
  const client = bench.client(address, { tls, timeoutMs: 500 });
  lost = true;
  expect((await failure(client.getHost({ host: "lab" }))).message).toContain("the vault is closed");
  lost = false;
  expect((await client.getHost({ host: "lab" })).host?.name).toBe("lab");
});

test.each<[string, () => true | Tls]>([
  ["without a certificate", () => ({ ca: pem("ca.pem") })],
  ["with an expired one", () => as("expired")],
  ["of another authority", () => as("other")],
  ["that does not trust the server's authority", () => true],
])("a client %s gets nowhere", async (_, tls) => {
  const client = connect(address, { tls: tls(), timeoutMs: 500 });
  const error = await failure(client.getHost({ host: "lab" }));
  client.close();
  expect(error).toMatchObject({ kind: "ServerUnavailable", reason: "" });
});

test("a client without TLS gets nowhere", async () => {
  const client = connect(address, { timeoutMs: 500 });
  const error = await failure(client.getHost({ host: "lab" }));
  client.close();
  expect(error.reason).toBe("");
});
