# Everything below starts from Python (3.11 or newer) and git: the virtual environment is made on the way.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-kernels lint bench clean

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("skep needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip  # its start scripts are quicker
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	$(BIN)/python -m compileall -q src
	touch $@

demo: $(READY)
	$(BIN)/python examples/demo.py

test: $(READY)
	$(BIN)/python -m pytest -n auto --dist loadgroup

# Every hook and table in other kernels, under emulation: KERNELS="6.12 7" chooses.
test-kernels: $(READY)
	SKEP_TEST_KERNELS="$(or $(KERNELS),1)" $(BIN)/python -m pytest tests/kernels tests/verifier/test_other_kernels.py -q

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/basedpyright --level error --pythonpath $(BIN)/python
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python -m bench

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache bench/out
