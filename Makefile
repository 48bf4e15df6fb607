SHELL := /bin/bash
PY := .venv/bin/python

.PHONY: setup demo test test-unit test-root lint bench proto clean

setup: .venv/.ready ## everything a fresh Debian or Ubuntu machine needs

.venv/.ready: pyproject.toml deploy/setup.sh
	bash deploy/setup.sh
	touch $@

proto: setup ## generate the code of policies/wire/pb again
	cd .src && ../$(PY) -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. \
		weft/policies/wire/pb/*.proto
