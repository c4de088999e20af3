# One word for each task of a developer's day: `make help` lists them.
PYTHON := .venv/bin/python
DRIVER ?= qemu
DIRECTORY ?=
CPUS ?=
ARGS ?=
COUNT ?=

.DEFAULT_GOAL := help
# Of Xen CI does these: all of them would take five minutes.
ON_XEN := StartDomain or SuspendDomain or ManagedSaveDomain or SetMemory] or DestroyDomain
MATRIX := qemu kvm power arm64 s390x lxc xen esx vpx vmware openvz test vz hyperv vbox bhyve ch

# Each has a target test-client-NAME.
CLIENTS := python go typescript

.PHONY: help setup demo test test-fast test-faults test-restart test-hostile test-mesh test-clients $(CLIENTS:%=test-client-%) test-hypervisors test-at-hand $(MATRIX:%=test-%) check serve proto image sbom audit bench soak lock clean

help: ## list these words
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "make %-16s %s\n", $$1, $$2 }'

setup: ## make .venv, install missing Debian packages, build the guest image; quick once done
	@.ci/setup

demo: ## a managed save of a real guest while every query answers (DRIVER=sim needs no QEMU)
	@.ci/setup $(DRIVER)
	@$(PYTHON) -m tests.demo.run --driver $(DRIVER) $(if $(DIRECTORY),--directory $(DIRECTORY)) $(if $(CPUS),--cpus $(CPUS))

test: setup ## every test, real guests included (ARGS='-k name' for some)
	@$(PYTHON) -m pytest -n 2 $(ARGS)

test-fast: setup ## the tests that start no hypervisor
	@$(PYTHON) -m pytest -m 'not hypervisor and not image and not matrix and not mesh and not restart and not hostile' $(ARGS)

test-faults: setup ## guests and daemons that are stopped, killed and flooded; minutes (ARGS='-k name' for some)
	@$(PYTHON) -m pytest -m faults tests/faults $(ARGS)

test-restart: setup ## server and driver processes are killed 200 times each under load; minutes (ARGS='-k name' for some, VIRTRPC_KILLS=20 for less)
	@$(PYTHON) -m pytest -n 2 -o faulthandler_timeout=1200 -m restart tests/restart $(ARGS)

test-hostile: setup ## attacks over real sockets, and many more wild requests than make test sends; minutes (COUNT=50 for fewer batches)
	@VIRTRPC_FUZZ_EXAMPLES=$(or $(COUNT),300) $(PYTHON) -m pytest -n 2 -o faulthandler_timeout=1200 --timeout 1200 -m 'hostile or not hostile' tests/hostile $(ARGS)

test-mesh: setup ## a real Envoy in front of the server, by gRPC, gRPC-Web and JSON; minutes (ARGS='-k name' for some)
	@$(PYTHON) -m pytest -n 2 -m 'mesh or not mesh' tests/mesh $(ARGS)

test-clients: $(CLIENTS:%=test-client-%) ## the client of each language against the real server; needs what each is written in (make test-client-go: one)

test-client-python: setup
	@$(PYTHON) -m pytest tests/clients $(ARGS)

test-client-go: setup
	@$(PYTHON) proto/generate.py --check go
	@cd clients/go && { unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "run gofmt -w on: $$unformatted"; exit 1; }; }
	@cd clients/go && go vet ./... && go tool -modfile=tools/go.mod staticcheck ./virtrpc ./examples/...
	@cd clients/go && go test -count=1 $(if $(ARGS),$(ARGS),./...)

test-client-typescript: setup
	@$(PYTHON) proto/generate.py --check typescript
	@$(PYTHON) -m tests.beds.packages chromium
	@cd clients/typescript && npm run --silent build && npm run --silent check && npm test --silent -- $(ARGS)

test-hypervisors: setup ## every RPC on every hypervisor that starts here; writes docs/hypervisors.md (make test-xen: on one)
	@$(PYTHON) -m pytest -m matrix tests/beds tests/e2e tests/hypervisors $(ARGS)
	@$(PYTHON) -m tests.hypervisors.table

test-at-hand: setup ## every RPC on the hypervisors that start within seconds, some on Xen, and whether docs/hypervisors.md says what was found
	@HYPERVISORS="$$($(PYTHON) -m tests.hypervisors.table --at-hand)" $(PYTHON) -m pytest -m matrix tests/hypervisors tests/e2e $(ARGS)
	@HYPERVISORS=xen $(PYTHON) -m pytest -m matrix tests/hypervisors -k "$(ON_XEN)"
	@$(PYTHON) -m tests.hypervisors.table --check

$(MATRIX:%=test-%): test-%: setup
	@HYPERVISORS=$* $(PYTHON) -m pytest -m matrix tests/hypervisors $(ARGS)

check: setup ## lint, format, strict types, contract, stubs in step: changes nothing
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy drivers server clients/python tests
	.venv/bin/buf lint proto
	.venv/bin/buf breaking proto --against proto/baseline.binpb
	$(PYTHON) proto/generate.py --check

serve: setup ## run the server here (ARGS='--host NAME=URI')
	@.venv/bin/virtrpcd $(ARGS)

proto: setup ## generate the stubs, and Envoy's routes, from the contract
	@$(PYTHON) proto/generate.py

image: setup ## build the container image without an engine, and run it (localhost/virtrpc in buildah's storage, in the cache)
	@$(PYTHON) -m tests.image.build
	@$(PYTHON) -m pytest -o faulthandler_timeout=900 -m image tests/image $(ARGS)

sbom: setup ## what the server consists of, as CycloneDX: build/sbom.json
	@$(PYTHON) -m tests.image.supply sbom

audit: setup ## whether anything that the server consists of has a known vulnerability (needs PyPI's or OSV's service)
	@$(PYTHON) -m tests.image.supply audit

bench: setup ## measure the server: a table, build/bench.json, build/bench.svg (ARGS='--rows queries --rounds 2')
	@$(PYTHON) -m tests.bench.run $(ARGS)

soak: setup ## a million watch streams come and go while the server's memory stays flat (COUNT=20000 for fewer)
	@$(PYTHON) -m tests.bench.soak $(COUNT)

lock: ## write constraints.txt anew from the newest versions that pyproject.toml allows
	@.ci/lock

clean: ## remove .venv and what tools leave in the checkout (the guest image stays in its cache)
	rm -rf .venv .setup.lock .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist $(addprefix clients/typescript/,node_modules dist build)
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
