# make demo   set up everything and run the whole pipeline on small models
# make test   run the tests (make test-fast leaves out the slow ones; make test-long runs the longest, as CI does)
# make bench  ratios, measured side by side in one run
# make claim  the paper's claim on small models, hours, resumable; writes docs/claim.md
# make lint   style, types, floors
# make lock   write the hashes of all pins anew (requirements/hashes/), after a pin has changed
# make audit  ask the advisory databases for known vulnerabilities of the pins; needs the internet
# make sbom   bills of materials of both environments (CycloneDX) in build/sbom/
#
# PYTHON  the interpreter to make the environments with (3.11 or newer)
# SERVE   cpu (default) or gpu: which build of torch, and which pins the vLLM environment is made from
# HASHES  no: install the same versions unchecked, on another platform than Linux x86-64 with Python 3.11 (docs/security.md)

PYTHON ?= python3
SERVE ?= cpu
HASHES ?= yes
PIP = -m pip --disable-pip-version-check -qq install
torch = $(if $(filter gpu,$(SERVE)),cuda,torch-cpu)
# An environment, the lists that it is made of, and what pip is told where hashes are not asked for.
install = @$(1)/bin/python $(if $(filter no,$(HASHES)),$(PIP) $(3),requirements/install.py $(2))

.PHONY: setup demo test test-fast test-long test-soak bench lint lock audit sbom nano claim clean
.DEFAULT_GOAL := demo

setup: .venv/.done .venv-serve/.done-$(SERVE)

.venv/.done: requirements/pipeline.txt requirements/install.py pyproject.toml
	@echo "Setting up the pipeline environment (.venv); some minutes the first time"
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	$(call install,.venv,build $(torch) pipeline,-r requirements/build.txt -r requirements/pipeline.txt)
	@.venv/bin/python -m pip --disable-pip-version-check -q check
	@.venv/bin/python $(PIP) --no-deps --no-build-isolation -e .
	@touch $@

# --no-deps: the file is the full list, and leaves out what does not import beside the CPU build of torch.
.venv-serve/.done-$(SERVE): requirements/serve-$(SERVE).txt
	@echo "Setting up the vLLM environment (.venv-serve); some minutes the first time"
	@test -x .venv-serve/bin/python || $(PYTHON) -m venv .venv-serve
	$(call install,.venv-serve,$(filter torch-cpu,$(torch)) serve-$(SERVE),--no-deps -r requirements/serve-$(SERVE).txt)
	@touch $@

.venv/.done-tools: .venv/.done requirements/tools.txt requirements/kubernetes.txt
	$(call install,.venv,kubernetes tools,--no-deps -r requirements/kubernetes.txt -r requirements/tools.txt)
	@touch $@

demo: setup
	@.venv/bin/vip demo

test: setup .venv/.done-tools
	@.venv/bin/python -m pytest -m "not slow and not long and not soak" -n 2 --dist loadfile
	@.venv/bin/python -m pytest -m "slow and not long" -n 2 --dist loadfile --durations=15

test-long: setup .venv/.done-tools
	@.venv/bin/python -m pytest -m long -n 2 --dist loadfile --durations=5

test-soak: setup .venv/.done-tools
	@.venv/bin/python -m pytest -m soak --durations=10

test-fast: .venv/.done-tools
	@.venv/bin/python -m pytest -m "not slow and not long and not soak" -n 2 --dist loadfile

bench: setup
	@.venv/bin/python -m bench

lint: .venv/.done
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-cache | tail -3
	@.venv/bin/codespell

lock: .venv/.done-tools
	@.venv/bin/python requirements/lock.py

audit: .venv/.done-tools
	@.venv/bin/python requirements/audit.py

sbom: setup .venv/.done-tools
	@mkdir -p build/sbom
	@for environment in .venv .venv-serve; do \
	  .venv/bin/cyclonedx-py environment $$environment/bin/python --pyproject pyproject.toml --mc-type application \
	    --output-reproducible --output-file build/sbom/$$environment.cdx.json; done
	@ls build/sbom

nano: setup
	@.venv/bin/vip nano train

claim: setup
	@.venv/bin/vip claim --root ./.vip-claim

clean:
	rm -rf .venv .venv-serve .vip
