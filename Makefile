# make demo   install, then the main job: train, export, verify, predict
# make test   install, then the tests
# make test-isa   the parity tests again, as on processors with fewer instruction sets
# make lint   formatting, lint, types, import walls; changes nothing
# make fix    format, and mend what ruff can

VENV := .venv
BIN := $(VENV)/bin
# The first interpreter that pyproject.toml admits.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo $$p && break; done)

.PHONY: demo test test-isa lint fix

demo: $(VENV)/.installed
	$(BIN)/hornbill demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

test-isa: $(VENV)/.installed
	$(BIN)/python -m pytest -m isa

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Hornbill needs Python 3.11, 3.12 or 3.13 on the PATH."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[train,tune,serve,sign,ray,jax,dev]'
	touch $@
