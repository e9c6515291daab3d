# make demo   install the packages for training and export, then train, export, verify and predict
# make test   install everything, then run the tests
# make test-isa   run the parity tests with fewer instruction sets, as on older processors
# make lint   install everything, then check formatting, lint, types and imports; changes nothing
# make fix    format, and fix what ruff can fix
# make docs   install the docs builder, then build the documentation into site/

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# The first interpreter on the PATH with a version that pyproject.toml allows.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo $$p && break; done)

EXTRAS_demo := train
EXTRAS_docs := docs
EXTRAS_dev := train,tune,serve,sign,oci,mlflow,ray,jax,dev

# The tests start many processes, which must not compile every module again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-isa lint fix docs

demo: $(VENV)/.installed-demo
	$(BIN)/hornbill demo

test: $(VENV)/.compiled
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

test-isa: $(VENV)/.compiled
	$(BIN)/python -m pytest -m isa

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.installed-docs
	$(BIN)/mkdocs build --strict

# --no-compile: pip compiles every installed module on one core, and the demo imports few of them.
$(VENV)/.installed-%: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --no-compile --constraint constraints.txt --editable '.[$(EXTRAS_$*)]'
	touch $@

# The pip that comes with Python 3.11 takes twice as long to resolve versions as the current one.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Hornbill needs Python 3.11, 3.12 or 3.13 on the PATH."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip

# Tests start many processes, which must not each compile TensorFlow; -j 0 uses all cores.
$(VENV)/.compiled: $(VENV)/.installed-dev
	$(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null || true
	touch $@
