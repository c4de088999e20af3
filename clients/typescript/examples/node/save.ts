/** Saves a domain and follows the job; Ctrl-C cancels it and waits for its end. `npm run example -- HOST/NAME`, with the server in VIRTRPC_ADDRESS. */
import { argv, exit, stderr } from "node:process";

import { domainRef, seconds, VirtrpcError } from "virtrpc";
import { connect } from "virtrpc/node";
import { DomainState, JobState } from "virtrpc/v1";

const client = connect();

async function list(): Promise<void> {
  for await (const domain of client.listDomains()) {
    console.log(`${domain.host}/${domain.name}  ${DomainState[domain.state]}`);
  }
}

async function save(name: string): Promise<void> {
  const save = await client.managedSaveDomain({ domain: domainRef(name), options: { waitTimeout: seconds(60) } }, { onBroken: () => say("lost") });
  process.once("SIGINT", () => void save.cancel().then(({ outcome }) => say(`cancel: ${String(outcome)}`)));
  for await (const job of save) {
    say(`${JobState[job.state]} ${job.progress?.percent?.toFixed(0) ?? "0"} %`);
  }
  await save.wait();
}

function say(text: string): void {
  stderr.write(`${text}\n`);
}

try {
  const [, , name] = argv;
  await (name === undefined ? list() : save(name));
} catch (error) {
  if (!(error instanceof VirtrpcError)) {
    throw error;
  }
  const { reason, kind, metadata } = error;
  say(`${reason || kind}: ${error.message} ${JSON.stringify(metadata)}`);
  exit(1);
} finally {
  client.close();
}
