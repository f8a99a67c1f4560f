# Two commands do everything on a fresh Debian 12 or Ubuntu 24.04 machine: `make demo`, `make test`.
# `make help` lists the rest. CMake does the building; see CMakePresets.json.

PRESET ?= default
JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 10
BUILD := build/$(PRESET)

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev build demo test sanitize fuzz bench install format check-format lint clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## ?/  make \1\t/' | expand -t 22
	@echo
	@echo "  variables: PRESET=$(PRESET) JOBS=$(JOBS) PREFIX=$(PREFIX) FUZZ_SECONDS=$(FUZZ_SECONDS)"

demo: setup $(BUILD)/build.ninja  ## set up, build, and show the trained pair at work
	cmake --build $(BUILD) --parallel $(JOBS) --target sidewinder
	tools/demo.sh $(BUILD)/apps/sidewinder

# Older thread sanitizers need a memory layout that is not randomised too far.
ifeq ($(PRESET),tsan)
RUN := $(shell setarch -R true 2>/dev/null && echo setarch -R)
endif

test: build  ## set up, build, and run every test
	$(RUN) ctest --preset $(PRESET) --parallel $(JOBS)

build: setup $(BUILD)/build.ninja  ## set up and build everything
	cmake --build $(BUILD) --parallel $(JOBS)

# Ninja runs CMake again by itself when a build file changes.
build/%/build.ninja:
	cmake --preset $*

setup:  ## install missing packages with apt-get, one header with pip
	@tools/setup.sh $(if $(filter cuda bench,$(PRESET)),bench)

setup-dev:  ## the same, and clang, clang-format and clang-tidy
	@tools/setup.sh dev

sanitize: setup  ## run the tests with the address, undefined-behaviour and thread sanitizers
	$(MAKE) test PRESET=asan
	$(MAKE) test PRESET=tsan

fuzz: setup-dev build/fuzz/build.ninja  ## run every fuzz target for FUZZ_SECONDS
	tools/fuzz.sh build/fuzz $(FUZZ_SECONDS)

bench: setup  ## plain against speculative on the held-out prompts
	$(MAKE) build PRESET=$(PRESET)
	$(BUILD)/apps/sidewinder bench --model checkpoints/sidewinder-10m \
	  --draft checkpoints/sidewinder-draft-1m --prompts checkpoints/prompts/heldout.jsonl

install: setup $(BUILD)/build.ninja  ## install under PREFIX
	cmake --build $(BUILD) --parallel $(JOBS)
	cmake --install $(BUILD) --prefix $(PREFIX)

format: setup-dev  ## format the sources in place
	tools/format.sh

check-format:  ## fail if a source is not formatted
	tools/format.sh --check

lint: setup-dev $(BUILD)/build.ninja  ## clang-tidy over the host sources
	tools/lint.sh $(BUILD)

clean:  ## remove the build folders
	rm -rf build
