/** Every domain of a server, as it is now, with its managed save: begun, followed and cancelled here. `?server=URL` names the proxy; else the page's own. */
import { DomainMirror, domainKey, domainRef, VirtrpcError, type JobHandle } from "virtrpc";
import { DomainState, JobState, type Domain, type Job } from "virtrpc/v1";
import { connect } from "virtrpc/web";

const client = connect(new URLSearchParams(location.search).get("server") ?? location.origin, {
  reason: "a button of the example's page",
  onBroken: () => say("connection lost, trying again"),
});
const rows = new Map<string, Row>();

/** A domain's line in the table. */
class Row {
  readonly element = document.createElement("tr");
  readonly #cells = Array.from({ length: 4 }, () => this.element.insertCell());
  readonly #save = this.#button("Save", () => void this.#run((domain) => client.managedSaveDomain({ domain })));
  readonly #start = this.#button("Start", () => void this.#run((domain) => client.startDomain({ domain })));
  readonly #cancel = this.#button("Cancel", () => void this.#job?.cancel());
  #job: JobHandle | undefined;

  constructor(private domain: Domain) {
    this.element.insertCell().append(this.#save, this.#start, this.#cancel);
    this.#cancel.disabled = true;
    this.show(domain);
  }

  show(domain: Domain): void {
    this.domain = domain;
    [domain.host, domain.name, DomainState[domain.state]].forEach((text, place) => this.#write(place, text));
    this.element.dataset["domain"] = domain.name;
  }

  async #run(verb: (domain: ReturnType<typeof domainRef>) => Promise<JobHandle>): Promise<void> {
    try {
      this.#job = await verb(domainRef(this.domain));
      this.#cancel.disabled = false;
      for await (const job of this.#job) {
        this.#tell(job);
      }
      await this.#job.wait();
    } catch (error) {
      this.#write(3, error instanceof VirtrpcError ? `${error.reason || error.kind}: ${error.message}` : String(error), "error");
    } finally {
      this.#cancel.disabled = true;
      this.#job = undefined;
    }
  }

  #tell(job: Job): void {
    this.#write(3, JobState[job.state]);
    if (job.state === JobState.RUNNING && job.progress?.percent !== undefined) {
      const bar = document.createElement("progress");
      [bar.max, bar.value] = [100, job.progress.percent];
      this.#cells[3]?.append(" ", bar);
    }
  }

  #write(place: number, text: string, style = ""): void {
    const cell = this.#cells[place];
    if (cell !== undefined) {
      cell.textContent = text;
      cell.className = style;
    }
  }

  #button(label: string, press: () => void): HTMLButtonElement {
    const button = document.createElement("button");
    button.textContent = label;
    button.addEventListener("click", press);
    return button;
  }
}

async function main(): Promise<void> {
  const mirror = new DomainMirror();
  for await (const batch of client.watchDomains()) {
    mirror.apply(batch);
    show(mirror);
    say(mirror.caughtUp ? `${String(mirror.domains.size)} domains` : "listing…");
  }
}

function show({ domains }: DomainMirror): void {
  for (const [key, row] of rows) {
    if (!domains.has(key)) {
      row.element.remove();
      rows.delete(key);
    }
  }
  const table = document.getElementById("domains");
  for (const domain of [...domains.values()].sort((a, b) => (domainKey(a) < domainKey(b) ? -1 : 1))) {
    const row = rows.get(domainKey(domain));
    if (row === undefined) {
      const made = new Row(domain);
      rows.set(domainKey(domain), made);
      table?.append(made.element);
    } else {
      row.show(domain);
    }
  }
}

function say(text: string): void {
  const status = document.getElementById("status");
  if (status !== null) {
    status.textContent = text;
  }
}

main().catch((error: unknown) => say(String(error)));
