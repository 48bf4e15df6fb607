# Two commands do everything on a fresh Debian or Ubuntu machine: `make demo` and `make test`.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PY := .venv/bin/python
PYTEST := .venv/bin/pytest

.PHONY: help setup demo test test-unit test-root lint bench interop proto clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  make \1\t/' | expand -t 22

setup: .venv/.ready ## .venv with all that Weft and its tests need

.venv/.ready: pyproject.toml deploy/setup.sh
	bash deploy/setup.sh
	touch $@

demo: setup ## two nodes, four services, policies; who may reach whom, measured beside predicted (root)
	$(PY) deploy/demo/run.py $(DEMO_ARGS)

test: setup lint test-unit test-root ## everything that CI runs

test-unit: setup ## rings that run anywhere in seconds: unit, model, fuzz
	$(PYTEST) tests/unit tests/model tests/fuzz -q

test-root: setup ## rings that need root and a real kernel: bpf, netns
	$(PYTEST) tests/bpf tests/netns -q

lint: setup ## formatter, linter, types, import contracts
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

bench: setup ## measures against the same machine without Weft; writes tests/bench/RESULTS.md (root)
	$(PY) -m tests.bench

interop: setup ## grpc-go, h2spec, websockets and Envoy with the proxy; writes tests/bench/INTEROP.md (root, Go)
	$(PY) -m tests.bench.interop

proto: setup ## generates the code of policies/wire/pb again
	cd .src && ../$(PY) -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. \
		weft/policies/wire/pb/*.proto

clean: ## removes what make made
	rm -rf .venv build dist *.egg-info .src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
