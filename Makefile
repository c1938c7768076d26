# Everything a newcomer needs: `make run` and `make test` set up what they need by themselves.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.ready

.PHONY: help setup run test test-ray test-rest test-all test-job check bench bench-fleet asan clean
.DEFAULT_GOAL := help

help: ## list these targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

setup: $(STAMP) ## make .venv from requirements.txt, if it is not there or is stale

$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "FedTiny needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $(STAMP)

run: setup ## the main job: FedTiny on handwritten digits, ten clients, a local Ray
	$(BIN)/python -m fedtiny run configs/quickstart.yaml

test: setup ## all tests that take less than a minute each; those with a Ray beside the others
	$(MAKE) --no-print-directory -j2 test-ray test-rest

test-ray: setup
	$(BIN)/python -m pytest -m "ray and not slow"

test-rest: setup
	$(BIN)/python -m pytest -m "not ray and not slow"

test-all: setup ## all tests
	$(BIN)/python -m pytest

JOBS := .venv-jobs
$(JOBS)/.ready: $(STAMP)
	$(PYTHON) -m venv $(JOBS)
	$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' > "$$($(JOBS)/bin/python -c 'import site; print(site.getsitepackages()[0])')/main.pth"
	$(JOBS)/bin/python -m pip install --quiet --disable-pip-version-check "ray[default]==2.60.0"
	@touch $@

test-job: $(JOBS)/.ready ## the test of `ray job submit`, with ray[default] in an environment beside .venv
	$(JOBS)/bin/python -m pytest tests/cluster/test_job.py

check: setup ## ruff, ruff format, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: setup ## every method on the quickstart's data (about 35 minutes on 2 cores)
	$(BIN)/python -m fedtiny compare configs/quickstart.yaml configs/compare/rivals.yaml

PEERS := .venv-peers
$(PEERS)/.ready:
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet --disable-pip-version-check "torch==2.13.0" "flwr[simulation]==1.41.0" "pfl[pytorch]==0.6.0" scikit-learn
	@touch $@

bench-fleet: setup $(PEERS)/.ready ## clients a second beside Flower and pfl-research, in an environment of their own (about 26 minutes)
	$(BIN)/python benchmarks/against_peers.py $(PEERS)/bin/python

asan: setup ## the engine's law with AddressSanitizer and UndefinedBehaviorSanitizer looking on
	LD_PRELOAD="$$($${CXX:-c++} -print-file-name=libasan.so) $$($${CXX:-c++} -print-file-name=libubsan.so)" \
	  ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1 \
	  FEDTINY_ENGINE_FLAGS="-fsanitize=address,undefined -fno-sanitize=alignment -O1 -g" \
	  $(BIN)/python -m pytest -q -p no:cacheprovider tests/sparse/engine/test_law.py tests/sparse/engine/test_sparsify.py

clean: ## remove what setup and the tools made (not runs/)
	rm -rf .venv $(JOBS) $(PEERS) .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
