# `make demo`, `make test` and the others do their own set-up (deploy/setup.sh), which wants root
# when there is something to install. Tests and the demonstration want root always.
PYTHON := .venv/bin/python

.PHONY: setup demo test test-long test-kernels check bench clean

setup:
	@deploy/setup.sh

demo: setup
	@.venv/bin/srv6dmm demo --json out/demo.json

test: setup
	@$(PYTHON) -m pytest -n 2 --dist loadfile

# Links cut, daemons killed, lists broken under traffic: what waits for whole domains. One at a time:
# they hold routers to milliseconds.
test-long: setup
	@$(PYTHON) -m pytest -m long

# Boots Debian's old kernels under qemu, which it installs; some minutes each (docs/kernels.md).
test-kernels: setup
	@$(PYTHON) deploy/kernels

check: setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy --strict
	@.venv/bin/lint-imports

bench: setup
	@.venv/bin/srv6dmm bench control --json out/bench-control.json

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache out dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
