# The two commands of the README: `make demo` and `make test`. Everything sets itself up first.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/procession
export CARGO_TARGET_DIR ?= $(CACHE)/target
export PROCESSION_CACHE := $(CACHE)
LAUNCHER ?= python

VENV := $(CURDIR)/.venv
PY := $(VENV)/bin/python
NATIVE := python/procession/_native.abi3.so
REQUIREMENTS := $(wildcard requirements/*.txt)
LOCKED := $(if $(CI),--locked)
# The launchers for substrates, which are features of the extension.
ENGINES := --features engines

# What the extension is made of; the folders are in the list so that a removed file counts as a change.
RUST := Cargo.toml Cargo.lock pyproject.toml $(shell find crates \( -name target -o -path 'crates/*/tests' \) -prune -o \
	\( -type d -o -name '*.rs' -o -name Cargo.toml -o -name Cargo.lock \) -print)

# Tests that embed an interpreter find the one of .venv, and with it what is installed there, through PATH.
export PATH := $(VENV)/bin:$(PATH)
export VIRTUAL_ENV := $(VENV)
export PYO3_PYTHON := $(PY)
unexport PYTHONHOME PYTHONPATH
EMBED = LD_LIBRARY_PATH="$$($(PY) -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')$${LD_LIBRARY_PATH:+:$$LD_LIBRARY_PATH}"

# What nextest does by itself: a process for each test.
ALONE = --config 'target."cfg(all())".runner = "$(CURDIR)/scripts/each_alone.py"'

# What the tests report, for `make test-faults EVALUATE=1`.
REPORTS = $(CARGO_TARGET_DIR)/reports
NEXTEST_REPORT = target/nextest/default/junit.xml

WITH_DOCKER := engines/docker.sh with engines/with-image.sh

.PHONY: help setup target demo test test-rust test-python test-faults test-compat soak counts fuzz test-engines test-docker test-ssh test-slurm test-systemd test-kube test-vm test-remote lint bench bench-smoke bench-peers bench-curve engines engine-kube wheel wheel-core ci clean env

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' Makefile | expand -t 14

setup: target $(NATIVE) ## .venv with the release build of the extension and all that the tests need

$(VENV)/.requirements: $(REQUIREMENTS) scripts/prerequisites.sh
	PYTHON='$(PYTHON)' scripts/prerequisites.sh
	test -x $(PY) || '$(PYTHON)' -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps $(REQUIREMENTS:%=-r %)
	$(PY) -m pip check
	touch $@

# The target folder serves every checkout, one at a time: to cargo their crates are the same, and older sources look
# built. So what another checkout has built of them is forgotten first.
$(NATIVE): $(VENV)/.requirements $(RUST) | target
	touch $(VENV)/.began
	exec 9> $(CARGO_TARGET_DIR)/.setup-lock && flock 9 && maturin develop --release $(ENGINES) $(LOCKED)
	touch -r $(VENV)/.began $@

target:
	@mkdir -p $(CARGO_TARGET_DIR)
	@exec 9> $(CARGO_TARGET_DIR)/.setup-lock && flock 9 && \
	{ [ "$$(cat $(CARGO_TARGET_DIR)/.owner 2>/dev/null)" = '$(CURDIR)' ] || \
		rm -rf $(CARGO_TARGET_DIR)/*/.fingerprint/procession* $(CARGO_TARGET_DIR)/release/{,deps/}libprocession_native.*; } && \
	echo '$(CURDIR)' > $(CARGO_TARGET_DIR)/.owner

demo: setup $(if $(filter docker,$(LAUNCHER)),wheel) ## trains on real digits on 4 procs, one of which is killed: LAUNCHER=python|native|docker
	$(if $(filter docker,$(LAUNCHER)),$(WITH_DOCKER)) $(PY) examples/train_digits.py --launcher $(LAUNCHER)

test: test-rust test-python ## every test but those that need an engine

test-rust: setup
	@rm -rf $(REPORTS)/rust $(NEXTEST_REPORT)
	@if cargo nextest --version >/dev/null 2>&1; then \
		$(EMBED) PROCESSION_STATE_DIR= cargo nextest run --workspace $(LOCKED); \
	else \
		echo 'cargo-nextest is not installed (cargo install cargo-nextest --locked): using cargo test'; \
		$(EMBED) cargo build --workspace $(LOCKED) --examples && \
		$(EMBED) PROCESSION_STATE_DIR= EACH_ALONE_REPORTS=$(REPORTS)/rust \
			cargo test --workspace $(LOCKED) --no-fail-fast --lib --bins --tests $(ALONE); \
	fi
	$(EMBED) PROCESSION_STATE_DIR= cargo test --workspace $(LOCKED) --doc

test-python: setup
	@rm -f $(REPORTS)/python.xml
	$(PY) -m pytest --ignore tests/engines --ignore tests/remote --ignore tests/compat --junitxml $(REPORTS)/python.xml

test-faults: setup ## the tests that hold a row of docs/faults.md, row by row; EVALUATE=1 reads what `make test` has left
	$(EMBED) $(PY) scripts/faults.py $(if $(EVALUATE),--evaluate $(REPORTS)/python.xml \
		$(or $(wildcard $(REPORTS)/rust/*.xml),$(NEXTEST_REPORT)))

test-compat: setup ## the same programs on torchmonarch and here; COMPAT_WRITE=1 writes docs/compatibility.md
	python=$$(PYTHON='$(PYTHON)' tests/compat/environment.sh) && COMPAT_PYTHON=$$python $(PY) -m pytest tests/compat

soak: setup ## 50 procs on three launchers, hurt in every way for SECONDS=60; SEED= repeats a plan; without SECONDS, then counts
	$(PY) scripts/soak $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))
	$(if $(SECONDS),,$(MAKE) --no-print-directory counts)

counts: setup ## the tests whose numbers are a twentieth elsewhere, with all of them
	PROCESSION_SOAK_TIMES=20 PROCESSION_SOAK_LAUNCHES=10000 PROCESSION_SOAK_AT_ONCE=1000 PROCESSION_SOAK_GIL_SECONDS=20 \
		$(PY) -m pytest tests/faults/test_counts.py tests/faults/test_process_many.py \
		tests/faults/test_launcher_registration.py tests/faults/test_launcher_hangs.py

fuzz: setup ## libFuzzer on what strangers can send, SECONDS=120 each; TARGET=frame, handshake, lines, exit, value, journal
	$(EMBED) scripts/fuzz.sh $(or $(SECONDS),120) $(TARGET)

test-engines: test-docker test-ssh test-slurm test-systemd test-kube test-vm ## the tests of launchers for substrates, each against a real one

# A Podman that may not raise limits, as here, launches nothing of which one is set (docs/launchers/docker.md): without limits.r* and w*.
test-docker: setup wheel ## the tests and the conformance kit against a real Docker, then a real Podman, and the demo against the first
	$(WITH_DOCKER) bash -c '$(PY) -m pytest tests/engines/docker && engines/conformance.sh docker:$$DOCKER_IMAGE 40 --jobs 4 && \
		$(PY) examples/train_digits.py --launcher docker'
	engines/podman.sh with engines/with-image.sh bash -c '$(PY) -m pytest tests/engines/docker/test_docker_launcher.py && \
		PODMAN_HOST=$$DOCKER_HOST engines/conformance.sh podman:$$DOCKER_IMAGE 40 --jobs 4 --only "[!l]*" --only "limits.[!rw]*"'

test-ssh: setup ## the tests and the conformance kit over real sshds: three machines, in network namespaces
	engines/ssh.sh with bash -c '$(PY) -m pytest tests/engines/ssh && engines/conformance.sh ssh:n1 40 --jobs 4'

# What is tested in there is built out here: a place has no way to a registry.
test-systemd: setup ## the tests against a real systemd, and the conformance kit with its system manager and with one of a user
	cargo test -p procession-launch-systemd --test adopted $(LOCKED) --no-run
	engines/systemd.sh with bash -c '$(PY) -m pytest tests/engines/systemd && \
		cargo test -p procession-launch-systemd --test adopted $(LOCKED) --offline -- --ignored && \
		engines/conformance.sh systemd:user 40 --jobs 4 && engines/conformance.sh systemd:system 40 --jobs 4'

test-slurm: setup ## the tests and the conformance kit against a real Slurm of four nodes
	engines/slurm.sh with bash -c '$(PY) -m pytest tests/engines/slurm && engines/conformance.sh slurm 40 --jobs 8'

test-vm: setup wheel ## the tests and a fifth of the conformance kit, each in a virtual machine without KVM
	engines/vm.sh with bash -c '$(PY) -m pytest tests/engines/vm && \
		engines/conformance.sh vm:$$VM_IMAGE 20 --jobs 2 --patience 150 --only "stop.*" --only "limits.*"'

test-kube: setup wheel ## the tests and the conformance kit against a real Kubernetes of one node, which is built when it is not there yet
	engines/kube.sh with engines/with-image.sh bash -c '$(PY) -m pytest tests/engines/kube && \
		engines/conformance.sh kubernetes:$$DOCKER_IMAGE 40 --jobs 4'

test-remote: setup ## hosts over a real sshd and a real Slurm, on the loopback
	engines/remote.sh install
	$(PY) -m pytest tests/remote

engines: ## installs, when root, what each engine needs, and starts a private one: engines/NAME.sh down ends it
	@for engine in docker podman ssh slurm systemd vm; do \
		if engines/$$engine.sh check; then engines/$$engine.sh install && engines/$$engine.sh up || exit; else [ $$? = 77 ] || exit; fi; \
	done

engine-kube: ## builds Kubernetes when it is not there yet, which takes minutes, and starts a private one: engines/kube.sh down ends it
	@if engines/kube.sh check; then engines/kube.sh install && engines/kube.sh up; else [ $$? = 77 ]; fi

lint: setup ## format, lints, types, and the rules of the house
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --features procession-py/engines,procession/command,procession/docker,procession/kubernetes,procession/slurm,procession/ssh,procession/systemd,procession/vm,procession/virtual-time $(LOCKED) -- -D warnings
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/stubtest --concise --allowlist scripts/stubtest.allow procession._native
	$(PY) scripts/check_house.py
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --all-features check; \
	else echo 'skipped: cargo deny, which is not installed (cargo install cargo-deny --locked)'; fi
	@if $(PY) -m pip_audit --version >/dev/null 2>&1; then $(PY) -m pip_audit --no-deps --disable-pip $(REQUIREMENTS:%=-r %); \
	else echo 'skipped: pip-audit, which is not installed ($(PY) -m pip install pip-audit)'; fi

bench: setup wheel-core ## every figure beside bounds and peers, and whether its goal is met; ONLY=calls,spawn ROUNDS=5
	cargo build --release $(LOCKED) -p procession-actor --example messages
	$(PY) -m bench $(if $(ONLY),--only $(ONLY)) $(if $(ROUNDS),--rounds $(ROUNDS))

bench-smoke: setup ## fails when a ratio to a peer is 3 times what was accepted; ACCEPT=1 accepts what is measured now
	$(PY) -m bench.smoke $(if $(ACCEPT),--accept)

bench-peers: setup ## the same programs on torchmonarch, Ray and xoscar, in environments in the cache folder; ONLY=Ray ROUNDS=3
	$(PY) -m bench.peers $(if $(ONLY),--only $(ONLY)) $(if $(ROUNDS),--rounds $(ROUNDS))

bench-curve: setup ## docs/flat-cost.json and .svg: what each proc costs beside 1 to 1,000 others; MOST=256 ROUNDS=3
	$(PY) -m bench.curve $(if $(MOST),--most $(MOST)) $(if $(ROUNDS),--rounds $(ROUNDS))
	$(PY) -m bench.plot

wheel: $(VENV)/.wheel ## dist/procession-*.whl, with the launchers for every substrate

# In a folder of its own: the extension has the same file name with other features.
wheel-core: $(VENV)/.requirements ## dist/core/procession-*.whl, with the native launcher and those written in Python alone
	rm -rf dist/core
	CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/core maturin build --release $(LOCKED) --out dist/core

$(VENV)/.wheel: $(NATIVE) $(shell find python -name '*.py' -o -name '*.pyi') LICENSE-MIT LICENSE-APACHE
	rm -f dist/*.whl
	maturin build --release $(ENGINES) $(LOCKED) --out dist
	touch $@

ci: ## test, and then every further lane; one line per lane at the end
	PYTHON='$(PYTHON)' scripts/prerequisites.sh
	'$(PYTHON)' scripts/ci.py

env: target ## what to export for cargo by hand: eval "$(make -s env)"
	@echo 'export PATH=$(VENV)/bin:$$PATH VIRTUAL_ENV=$(VENV) PYO3_PYTHON=$(PY) CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)'
	@echo export $(EMBED)

clean: ## what was built and installed here; the cargo folder in the cache stays
	rm -rf $(VENV) dist $(NATIVE) .pytest_cache .mypy_cache .ruff_cache .hypothesis
