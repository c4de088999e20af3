/** The example's page in Debian's Chromium, which comes to the server through Envoy by gRPC-Web. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { chromium, type BrowserContext, type Locator, type Page } from "playwright-core";
import { build } from "vite";
import { afterAll, beforeAll, expect, test } from "vitest";

import { domainRef } from "../../src/index.js";
import { connect } from "../../src/node.js";
import { GUARD } from "../server.js";
import { stage, type Stage } from "./stage.js";

const CHROMIUM = "/usr/bin/chromium";
const CONFIG = fileURLToPath(new URL("../../examples/browser/vite.config.ts", import.meta.url));
const KINDS: Record<string, string> = { ".html": "text/html", ".js": "text/javascript" };

let play: Stage;
let files: string;
let server: Server;
let browser: BrowserContext;
let page: Page;
const faults: string[] = [];

beforeAll(async () => {
  if (!existsSync(CHROMIUM)) {
    throw new Error(`${CHROMIUM} is missing: make test-client-typescript installs it, or apt-get install chromium`);
  }
  play = await stage();
  files = mkdtempSync(join(tmpdir(), "virtrpc-page-"));
  await build({ configFile: CONFIG, logLevel: "warn", build: { outDir: join(files, "page") } });
  server = serve(join(files, "page"));
  await once(server, "listening");
  // Chromium looks for Google's hosts all the time unless it is told not to; as root it has no sandbox.
  const args = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ];
  const options = { executablePath: CHROMIUM, headless: true, chromiumSandbox: false, args };
  browser = await chromium.launchPersistentContext(join(files, "profile"), options);
  page = await browser.newPage();
  page.setDefaultTimeout(GUARD);
  page.on("pageerror", (error) => faults.push(String(error)));
  const { port } = server.address() as AddressInfo;
  await page.goto(`http://127.0.0.1:${String(port)}/?server=http://${play.envoy}`);
  await page.getByRole("status").filter({ hasText: "10 domains" }).waitFor();
});
afterAll(async () => {
  await browser.close();
  server.close();
  await play.end();
  rmSync(files, { recursive: true });
  expect(faults).toEqual([]);
});

function serve(directory: string): Server {
  const answer = (path: string): [number, string, Buffer | string] => {
    const file = join(directory, path === "/" ? "index.html" : path);
    return existsSync(file) ? [200, KINDS[extname(file)] ?? "text/plain", readFileSync(file)] : [404, "text/plain", "no such file"];
  };
  const listener = createServer((request, response) => {
    const [status, kind, body] = answer(new URL(request.url ?? "/", "http://page").pathname);
    response.writeHead(status, { "content-type": kind }).end(body);
  });
  return listener.listen(0, "127.0.0.1");
}

/** A domain's line, and what stands in it. */
function row(host: string, name: string): { line: Locator; state: Locator; job: Locator; press: (button: string) => Promise<void> } {
  const line = page
    .locator("tr")
    .filter({ has: page.getByRole("cell", { name: host, exact: true }) })
    .filter({ hasText: name });
  const cells = line.getByRole("cell");
  return { line, state: cells.nth(2), job: cells.nth(3), press: (button) => line.getByRole("button", { name: button }).click() };
}

async function says(cell: Locator, text: string | RegExp): Promise<void> {
  await cell.filter({ hasText: text }).waitFor();
}

test("a page saves a domain, shows how far it is, and its end", async () => {
  const { job, state, press } = row("lab", "guest-1");
  await press("Save");
  await job.getByRole("progressbar").waitFor();
  await says(job, "SUCCEEDED");
  await says(state, "SHUTOFF");
});

test("a page cancels a job", async () => {
  const { job, state, press } = row("slow", "guest-1");
  await press("Save");
  await says(job, "RUNNING");
  await press("Cancel");
  await says(job, "CANCELLED");
  await says(state, "RUNNING");
});

test("a page is told why a verb is refused", async () => {
  const { job, press } = row("lab", "guest-2");
  await press("Start");
  await says(job, /WRONG_STATE: .*running/);
});

test("a page shows what others change", async () => {
  const { state } = row("lab", "guest-3");
  await says(state, "RUNNING");
  const other = connect(play.direct);
  await (await other.suspendDomain({ domain: domainRef("lab/guest-3") })).wait();
  await says(state, "PAUSED");
  other.close();
});
