/** What is held against the contract and its documents. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Code, createRouterTransport } from "@connectrpc/connect";
import { expect, test } from "vitest";

import { placeOf } from "../src/address.js";
import { createClient, domainRef, VirtrpcError, type Kind } from "../src/index.js";
import { connect } from "../src/node.js";
import { ErrorReason, JobService, QueryService, SnapshotService } from "../src/v1.js";
import { ROOT } from "./server.js";

const methods = [QueryService, JobService, SnapshotService].flatMap((service) => service.methods);

test("every RPC is a method, by a name of its own", () => {
  const client = createClient(createRouterTransport(() => undefined));
  expect(Object.keys(client).sort()).toEqual(["close", ...methods.map((method) => method.localName)].sort());
});

test("every page of a list has one kind of entries", () => {
  const pages = methods.map((method) => method.output).filter((output) => "nextPageToken" in output.field);
  const lists = pages.map(({ fields }) => fields.filter((field) => field.fieldKind === "list" && field.localName !== "unreachable").length);
  expect(lists).toEqual(pages.map(() => 1));
});

test("every reason has the kind that docs/errors.md gives it", () => {
  const rows = readFileSync(join(ROOT, "docs/errors.md"), "utf8").matchAll(/^\| ([A-Z_]+) \| .* \| (\w+) \|$/gm);
  const documented = Object.fromEntries([...rows].map(([, reason, kind]): [string, string] => [String(reason), String(kind)]));
  const reasons = Object.values(ErrorReason).filter((reason) => typeof reason === "string" && reason !== "UNSPECIFIED") as string[];
  expect(Object.fromEntries(reasons.map((reason) => [reason, new VirtrpcError(Code.Unknown, "", { reason }).kind]))).toEqual(documented);
});

test("a kind is one of wider ones, as the Python client's classes are", () => {
  const source = readFileSync(join(ROOT, "clients/python/virtrpc/errors.py"), "utf8");
  const classes = [...source.matchAll(/^class (\w+)\((\w+)\):/gm)].filter(([, , wider]) => wider !== "VirtrpcError" && wider !== "Exception");
  const reasons = Object.values(ErrorReason).filter((reason) => typeof reason === "string");
  const errors = reasons.map((reason) => new VirtrpcError(Code.Unknown, "", { reason }));
  for (const [, narrow = "", wider = ""] of classes) {
    const found = errors.filter((error) => error.kind === narrow);
    expect([narrow, found.map((error) => error.is(wider as Kind))]).toEqual([narrow, found.map(() => true)]);
  }
  expect(new VirtrpcError(Code.Unknown, "", { reason: "WAIT_TIMEOUT" }).is("NotFound")).toBe(false);
});

test("a domain is named by name, uuid, and its host before a slash", () => {
  const uuid = "6b1c2b4e-3c47-4f0e-9a5b-0d6a3f1f0001";
  expect(domainRef("web")).toMatchObject({ host: "", ref: { case: "name", value: "web" } });
  expect(domainRef("lab/web")).toMatchObject({ host: "lab", ref: { case: "name", value: "web" } });
  expect(domainRef(uuid, "lab")).toMatchObject({ host: "lab", ref: { case: "uuid", value: uuid } });
  expect(() => domainRef("lab/web", "far")).toThrow(TypeError);
});

test("an address is a socket or a host and port, and anything else is refused with an example", () => {
  expect(placeOf("/run/s")).toEqual({ path: "/run/s" });
  expect(placeOf("unix:///run/s")).toEqual({ path: "/run/s" });
  expect(placeOf("far:50051")).toEqual({ host: "far", port: 50051 });
  expect(placeOf("[::1]:50051")).toEqual({ host: "::1", port: 50051 });
  for (const wrong of ["http://far:1", "unix://run/s", "far", ":1", "far:port"]) {
    expect(() => placeOf(wrong), wrong).toThrow("127.0.0.1:50051");
  }
});

test("a token is not sent over a network in plain text", () => {
  expect(() => connect("far:50051", { token: "secret" })).toThrow("by TLS only");
  connect("far:50051", { token: "secret", tls: true }).close();
  connect("/run/s", { token: "secret" }).close();
});
