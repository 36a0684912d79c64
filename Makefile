# Two commands for a newcomer: `make demo` and `make test`. Both set up a virtual environment first, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
EXTRAS := api,worker,tracing,specimens,notebooks,docs,dev

.PHONY: demo test test-postgresql check docs serve bench faults contract setup clean

# Byte code is kept, whatever the caller's environment says: a dozen processes start from it in each run.
export PYTHONDONTWRITEBYTECODE :=

# torch goes in first, by its range: what comes after finds it present and pulls nothing larger in. Not compiled at once,
# which takes two minutes: most of what it brings is never imported.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("veridask needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt "torch>=2.6,<2.14"
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable ".[$(EXTRAS)]"
	touch $(READY)

setup: $(READY)

demo: $(READY)
	$(BIN)/veridask demo

test: $(READY)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

# The same service with its cases in PostgreSQL.
test-postgresql: $(READY)
	$(BIN)/python -m pytest --case-store=postgresql -n auto --maxprocesses 4 --dist loadfile

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation as a site in site/; a broken link, or a page that nothing leads to, is an error. The variable turns off
# a notice that the theme prints at each start: its maintainers end it in May 2027 in favour of a successor.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --clean --quiet

serve: $(READY)
	$(BIN)/veridask serve

bench: $(READY)
	$(BIN)/python -m benchmarks

faults: $(READY)
	$(BIN)/python -m benchmarks.faults

contract: $(READY)
	$(BIN)/python -m benchmarks.contract

clean:
	rm -rf $(VENV) var out build site *.egg-info
