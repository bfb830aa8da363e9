# The commands of the README: `make serve`, `make test` and `make bench`. They set up what they need by themselves.

PYTHON ?= python3
BIN := .venv/bin

# Where NVIDIA's driver answers, TensorFlow with CUDA serves; elsewhere OpenVINO, which needs a tenth of the space.
ENGINE ?= auto
ifeq ($(ENGINE),auto)
EXTRA := $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo openvino)
else
EXTRA := $(ENGINE)
endif
ifeq ($(filter $(ENGINE),auto openvino tensorflow),)
$(error ENGINE is auto, openvino or tensorflow, not '$(ENGINE)')
endif

# Clients of others' protocols, whose dependencies are not ours: each in an environment of its own, for tests/e2e.
CLIENTS := open_inference openapi_python typescript

# Programs that tests run, where they are. Installed by root in containers alone: nobody's own machine gets a browser or
# a server from a test. The tests that find one missing are skipped, and say so.
APT_PACKAGES := chromium fonts-dejavu-core nginx prometheus
APT := DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::http::Timeout=20

.PHONY: serve test apt screenshots bench constraints clean

serve: .venv/.installed-$(EXTRA)
	@exec $(BIN)/python -m app

# Two files at a time where one hardly uses a second core: fitting small networks, others' tools. The other tests measure
# what a process does, start Ray, drive a browser or answer signals, and have the machine to themselves.
SIDE_BY_SIDE := tests/contract tests/training tests/deploy tests/models $(wildcard tests/test_*.py)

test:
	@$(MAKE) --no-print-directory -j3 .venv/.installed-test $(CLIENTS:%=.venv-clients/%/.installed) .venv-deploy/.installed apt
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(SIDE_BY_SIDE)
	$(BIN)/python -m pytest $(SIDE_BY_SIDE:%=--ignore %)

.venv/.installed-%: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, $(PYTHON) is older; give one with PYTHON=…" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv
	@echo "installing what '$*' needs into .venv …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt '.[$*]'
	@touch $@

.venv-clients/%/.installed: tests/e2e/clients/%.txt
	@echo "installing what $* needs into .venv-clients/$* …"
	@$(PYTHON) -m venv .venv-clients/$*
	@.venv-clients/$*/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

# Where Node.js is not installed, or its registry can't be reached, the test of the types is skipped, and says so.
.venv-clients/typescript/.installed: $(wildcard tests/e2e/clients/typescript/package*.json)
	@mkdir -p $(@D) && cp $^ $(@D)
	@if command -v npm >/dev/null; then echo "installing what typescript needs into $(@D) …"; \
		npm ci --prefix $(@D) --silent --no-audit --no-fund && touch $@; fi; exit 0

# The vendors' tools that test deploy/, in an environment of their own: they want other versions than the service does
.venv-deploy/.installed: tests/deploy/requirements.txt
	@echo "installing the tools that test deploy/ into .venv-deploy …"
	@$(PYTHON) -m venv .venv-deploy
	@.venv-deploy/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

# One by one: a distribution may lack one of them
apt:
	@dpkg-query --show $(APT_PACKAGES) >/dev/null 2>&1 && exit 0; \
	test "$$(id -u)" = 0 && test ! -d /run/systemd/system && command -v apt-get >/dev/null || exit 0; \
	echo "installing $(APT_PACKAGES) …"; \
	$(APT) update; \
	for package in $(APT_PACKAGES); do $(APT) install --yes --no-install-recommends $$package >/dev/null; done; \
	exit 0

# The pictures of the page, after a change of it
screenshots: .venv/.installed-test apt
	@$(BIN)/python -m tests.browser.screenshots

# Ours beside its peers, each peer in an environment of its own. For an idle machine; takes half an hour.
PEERS := fastapi_tensorflow litserve_tensorflow bentoml_tensorflow

bench: .venv/.installed-bench $(PEERS:%=.venv-bench/%/.installed)
	@$(BIN)/python -m benchmarks

.venv-bench/%/.installed: benchmarks/peers/%.txt
	@echo "installing what $* needs into .venv-bench/$* …"
	@$(PYTHON) -m venv .venv-bench/$*
	@.venv-bench/$*/bin/python -m pip install --quiet --disable-pip-version-check --requirement $< || \
		{ echo "$* can't be installed here, and is left out" >&2; rm -rf .venv-bench/$*; exit 0; }
	@test ! -d .venv-bench/$* || touch $@

# After a change of dependencies: pins the versions that two installs a month apart share.
constraints: .venv/.installed-test
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --universal --python-version 3.11 --all-extras --no-emit-package demitasse \
		--no-header --no-annotate --quiet pyproject.toml --output-file constraints.txt
	$(BIN)/uv pip compile --universal --python-version 3.11 --no-header --no-annotate --quiet \
		tests/deploy/requirements.in --output-file tests/deploy/requirements.txt

clean:
	rm -rf .venv .venv-bench .venv-clients .venv-deploy
