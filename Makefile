# make demo   set up everything and run the whole pipeline on small models
# make test   run the tests (make test-fast leaves out the slow ones; make test-long runs the longest, as CI does)
# make bench  ratios, measured side by side in one run
# make claim  the paper's claim on small models, hours, resumable; writes docs/claim.md
# make lint   style, types, floors
#
# PYTHON  the interpreter to make the environments with (3.11 or newer)
# SERVE   cpu (default) or gpu: which pins the vLLM environment is made from

PYTHON ?= python3
SERVE ?= cpu
PIP = -m pip --disable-pip-version-check -qq install

.PHONY: setup demo test test-fast test-long test-soak bench lint nano claim clean
.DEFAULT_GOAL := demo

setup: .venv/.done .venv-serve/.done-$(SERVE)

.venv/.done: requirements/pipeline.txt pyproject.toml
	@echo "Setting up the pipeline environment (.venv); some minutes the first time"
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@.venv/bin/python $(PIP) -r requirements/pipeline.txt
	@.venv/bin/python $(PIP) --no-deps --no-build-isolation -e .
	@touch $@

# --no-deps: the file is the full list, and leaves out what does not import beside the CPU build of torch.
.venv-serve/.done-$(SERVE): requirements/serve-$(SERVE).txt
	@echo "Setting up the vLLM environment (.venv-serve); some minutes the first time"
	@test -x .venv-serve/bin/python || $(PYTHON) -m venv .venv-serve
	@.venv-serve/bin/python $(PIP) --no-deps -r requirements/serve-$(SERVE).txt
	@touch $@

demo: setup
	@.venv/bin/vip demo

test: setup
	@.venv/bin/python -m pytest -m "not slow and not long and not soak" -n 2 --dist loadfile
	@.venv/bin/python -m pytest -m "slow and not long" -n 2 --dist loadfile --durations=15

test-long: setup
	@.venv/bin/python -m pytest -m long -n 2 --dist loadfile --durations=5

test-soak: setup
	@.venv/bin/python -m pytest -m soak --durations=10

test-fast: .venv/.done
	@.venv/bin/python -m pytest -m "not slow and not long and not soak" -n 2 --dist loadfile

bench: setup
	@.venv/bin/python -m bench

lint: .venv/.done
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-cache | tail -3
	@.venv/bin/codespell

nano: setup
	@.venv/bin/vip nano train

claim: setup
	@.venv/bin/vip claim --root ./.vip-claim

clean:
	rm -rf .venv .venv-serve .vip
