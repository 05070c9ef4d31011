# All a user types: make demo, make test. Each builds .venv first; a second run costs seconds.
.PHONY: demo test lint proto setup clean

READY := .venv/.ready
PYTHON := .venv/bin/python
# Programs that the set-up fetched for want of the system's.
export PATH := $(PATH):$(CURDIR)/.tools/usr/bin

setup: $(READY)

$(READY): pyproject.toml scripts/setup.sh scripts/cpu-overrides.txt
	@scripts/setup.sh
	@touch $@

demo: $(READY)
	@ADAPTORY_SETUP_SECONDS=$$(cat .venv/.setup-seconds) $(PYTHON) -m examples.demo

test: $(READY)
	@$(PYTHON) -m pytest

lint: $(READY)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	cd proto && ../.venv/bin/buf lint && ../.venv/bin/buf format --diff --exit-code
	scripts/check-breaking.sh

proto: $(READY)
	scripts/generate-stubs.sh .

clean:
	rm -rf .venv .tools .adaptory
