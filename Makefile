# `make` alone lists the targets. `make demo` and `make test` are each enough on a fresh machine with Python 3.11 or newer.

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
# A package index with CPU builds of torch, for machines where the default one would bring gigabytes of CUDA: `make TORCH_INDEX=URL ...`
TORCH_INDEX ?=
# The stamp's name holds a checksum of what was installed and where: it is renewed when one of these changes, and only then.
STAMP := $(VENV)/installed-$(shell { pwd; cat pyproject.toml constraints.txt; } | cksum | tr ' ' -)
DEMO := runs/demo
# One worker a core, one thread a worker: threads of several workers would wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest -n auto --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo docs test test-all fuzz test-frameworks test-frameworks-ci install lint types format pins clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /make \1\t/' | expand -t 24

demo: $(STAMP)  ## train a small network on real digits, halve its work, quantize it, write runs/demo/report.html
	rm -rf $(DEMO)-base $(DEMO)
	$(PY) -m gleanet demo --out $(DEMO)

test: lint types  ## style, types and the quick tests
	$(PYTEST) -m "not slow"

test-all: lint types  ## style, types and every test, the slow ones too
	$(PYTEST)

fuzz: $(STAMP)  ## read every broken and hostile file of the corpus (about a minute)
	$(PYTEST) tests/fuzz -k "not every_tenth"

docs: $(STAMP)  ## build the site into site/; a broken link, a stale table or a tutorial that does not work is an error
	$(PY) benchmarks/tables.py --check
	PYTHONPATH=. $(PY) docs/tools/choices.py --check
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet
	$(PYTEST) tests/docs

test-frameworks-ci: $(STAMP)  ## set up JAX and Theano in environments of their own (1 GB, once) and test them; skips what cannot be set up
	$(PYTEST) -m slow tests/frameworks --ignore tests/frameworks/test_resume.py

test-frameworks: $(STAMP)  ## the same with every framework of `gleanet frameworks list` (6.5 GB, once; half an hour)
	GLEANET_ALL_FRAMEWORKS=1 $(PYTEST) tests/frameworks

install: $(STAMP)  ## only create .venv and install into it

lint: $(STAMP)  ## check style and formatting
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: $(STAMP)  ## check types
	$(PY) -m mypy

format: $(STAMP)  ## apply the formatting and the safe fixes
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

pins: $(STAMP)  ## take the versions in .venv as the new constraints.txt (first upgrade there what should be newer)
	@$(PY) -m pip freeze --all --exclude gleanet --exclude pip | sed 's/+cpu$$//' > $(VENV)/pins.txt
	@{ grep '^#' constraints.txt; cat $(VENV)/pins.txt; } > $(VENV)/constraints.txt && mv $(VENV)/constraints.txt constraints.txt

clean:  ## remove .venv, the demo's runs and every cache
	rm -rf $(VENV) $(DEMO) $(DEMO)-base build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A Python that is only a shim, or lacks venv, fails the probe like one that is too old.
$(STAMP):
	@for python in $${PYTHON:-python3 python3.11 python3.12 python3.13 python3.14}; do \
	    $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && break || python=; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "gleanet needs Python 3.11 or newer with venv, and found none: install it (Debian: apt install python3-venv) or set PYTHON" >&2; exit 2; \
	fi; \
	echo "Installing into $(VENV) with $$($$python --version): about 1.9 GB on disk, once"; \
	$$python -m venv $(VENV)
	$(PIP) install --no-deps $(if $(TORCH_INDEX),--retries 0 --timeout 15 --extra-index-url $(TORCH_INDEX)) -c constraints.txt torch
	$(PIP) install -c constraints.txt hatchling editables
	$(PIP) install -c constraints.txt --no-build-isolation -e '.[dev,docs]'
	@rm -f $(VENV)/installed-* && touch $@
