# `make demo` shows aiospice at work, `make test` runs the tests. Both set up .venv by themselves.
# PEERS=1 in front of either installs the programs of others first (root, Debian), and a missing
# one then fails the run instead of leaving tests out.

PYTHON ?= python3
PEERS ?=
# More arguments for what is run: make test ARGS="-k link -x"
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
KERNELS := $(shell grep -rl --include='*.py' -m 1 '^. cython:' src)
COMPILED := $(VENV)/.compiled

export PYTHON
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

.PHONY: demo demo-qemu test lint bench fuzz fuzz-harnesses soak mutants policies docs peers peers-wanted venv clean

demo: venv
	$(BIN)/aiospice demo $(ARGS)

demo-qemu: venv peers-wanted
	$(BIN)/aiospice demo --guest qemu $(ARGS)

test: venv peers-wanted
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered \
		-m "$$(if [ '$(PEERS)' = 1 ]; then echo 'not soak'; else sh .ci/peers marks; fi)" $(ARGS)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# ryll, a client to compare with, is a program in a wheel; where there is none it is left out.
bench: venv
	-@[ -e $(BIN)/ryll ] || $(BIN)/python -m pip install -q --disable-pip-version-check 'ryll==0.3.*'
	$(BIN)/aiospice bench $(ARGS)

# Every property test again, with many more examples; then what atheris makes of the harnesses.
fuzz: venv fuzz-harnesses
	PYTHONPATH=tests $(BIN)/python -m pytest -p hypothesis_profiles --hypothesis-profile=deep \
		--timeout=3600 -m 'hypothesis and not soak' $(ARGS)

FUZZ_SECONDS ?= 60
FUZZ_SEED ?=
fuzz-harnesses: venv
	$(BIN)/python fuzz/run.py images $(FUZZ_SECONDS) $(FUZZ_SEED)
	$(BIN)/python fuzz/run.py screen $(FUZZ_SECONDS) $(FUZZ_SEED)
	$(BIN)/python fuzz/run.py agent $(FUZZ_SECONDS) $(FUZZ_SEED)

# The long runs: hours, not minutes. Seeds that soak.jsonl has aren't played again.
SOAK_SEEDS ?= 100000
soak: venv
	$(BIN)/python -m pytest --timeout=0 -m soak $(ARGS)
	$(BIN)/aiospice lab --seeds $(SOAK_SEEDS) --first 100000 --no-costs --log soak.jsonl
	$(BIN)/aiospice lab --summary soak.jsonl

# Mistakes that are put into the cores: the simulator has to find each.
mutants: venv
	$(BIN)/python tests/mutants.py $(ARGS)

# Every figure of docs/policies.md, measured again: minutes.
policies: venv
	$(BIN)/python -m aiospice.proof.lab_page docs/policies.md

docs: venv
	$(BIN)/python tests/test_rooms.py --write
	$(BIN)/python tests/test_handover_faults.py --write
	$(BIN)/python -m aiospice.proof.reference > docs/protocol.md.new
	mv docs/protocol.md.new docs/protocol.md

peers:
	@sh .ci/peers install

peers-wanted:
	@if [ '$(PEERS)' = 1 ]; then sh .ci/peers install; else sh .ci/peers report; fi

# A compiled kernel wins the import over the .py beside it: it must neither be older than that nor
# stay when that is no kernel any more.
venv: $(INSTALLED) $(COMPILED)
	@find src -name '*.so' | while read -r so; do \
		head -n 1 "$${so%%.*}.py" 2>/dev/null | grep -q '^# cython:' || rm "$$so"; done

$(INSTALLED): pyproject.toml setup.py
	@command -v $(PYTHON) >/dev/null || { \
		echo "No $(PYTHON) here: install Python 3.11 or newer (Debian: apt-get install python3 python3-venv)," \
			"or name one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "aiospice needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
			"Name another: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) can't make a virtual environment. On Debian: apt-get install python3-venv"; exit 1; }
	@find src -name '*.so' -delete; rm -rf build
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@

$(COMPILED): $(INSTALLED) $(KERNELS)
	@$(if $(KERNELS),$(BIN)/python setup.py -q build_ext --inplace,:)
	@touch $@

clean:
	rm -rf $(VENV) build dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src -name '*.so' -delete
	find src tests -name __pycache__ -prune -exec rm -rf {} +
