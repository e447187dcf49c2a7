# `make demo` shows an answer, `make test` runs what CI runs; `make help` lists the rest.
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

export APUS_DATA ?= .apus-data
PREFIX ?= /usr/local
APUS := .build/release/apus
SOURCES := Package.swift Sources Tests Snippets
# Tests reach into modules; the demo uses the same flags, so that neither undoes the other's work.
BUILD := swift build -c release -Xswiftc -enable-testing
STATIC := .build-static

DEMO_MODELS := ppocr4_det ppocr4_rec magika
# Real models that are compared with onnxruntime: `make models MODELS=magika,nudenet` narrows it to some.
MODELS ?=

# Suites that time what they run, or have a time in which to do it: nothing else runs beside them.
TIMED := [.](CandidateTests|FusionWishTests|LaunchTests|LockTests|ThreadPoolTests|TuneTests|TuningCareTests|TuningTests)/

comma := ,
step = @printf '\n== %s\n' "$(1)"

.PHONY: help setup demo release install test check format check-format build-tests unit kernels tools-tests conformance sweeps \
  models profiles docs bench clean

help: ## List these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-14s %s\n", $$1, $$2 }'

setup: ## Install the system packages that are missing
	@Tools/install-packages

demo: setup ## Build, fetch real models, read the text of a picture, and tell the types of some files
	$(call step,build)
	$(BUILD) --product apus
	$(call step,models)
	Tools/fetch-models --only $(subst $(eval ) ,$(comma),$(DEMO_MODELS)),magika_config
	$(call step,engines)
	@mkdir -p "$$APUS_DATA/engines"
	@for model in $(DEMO_MODELS); do \
	  $(APUS) build "$$APUS_DATA/models/$$model.onnx" -o "$$APUS_DATA/engines/$$model.apus"; done
	$(call step,text of a picture)
	@Examples/ocr.py
	$(call step,types of files)
	@Examples/filetypes.py

release: setup ## Build the binary to ship, .build-static/apus: Swift linked in, without symbols
	swift build -c release --scratch-path $(STATIC) --static-swift-stdlib --product apus
	strip -o $(STATIC)/apus $(STATIC)/release/apus
	@ls -lh $(STATIC)/apus | awk '{ print $$5, $$9 }'

install: release ## Install the static binary under PREFIX (default /usr/local)
	install -D -m 755 $(STATIC)/apus "$(DESTDIR)$(PREFIX)/bin/apus"

test: setup check-format build-tests unit kernels tools-tests conformance sweeps models profiles ## Everything that CI runs
	@printf '\nall checks passed\n'

check: check-format build-tests unit ## The part of the tests that needs no network

check-format:
	$(call step,format)
	swift format lint --strict --parallel --recursive $(SOURCES)

format: ## Format the sources in place
	swift format --in-place --parallel --recursive $(SOURCES)

build-tests:
	$(call step,build$(comma) warnings are errors)
	$(BUILD) --build-tests

unit:
	$(call step,tests)
	swift test -c release --skip-build --skip '$(TIMED)'
	$(call step,tests that measure$(comma) one at a time)
	swift test -c release --skip-build --no-parallel --filter '$(TIMED)'

kernels: ## Compile the CUDA kernels of all operations for four GPU architectures; needs no GPU
	$(call step,CUDA kernels)
	Tools/fetch-nvrtc
	LD_LIBRARY_PATH="$$(realpath "$$APUS_DATA")/nvrtc/lib$${LD_LIBRARY_PATH:+:$$LD_LIBRARY_PATH}" APUS_REQUIRE_NVRTC=1 \
	  swift test -c release --skip-build --filter CompilationTests

tools-tests:
	$(call step,tests of the scripts)
	Tools/tests/test_tools.py

conformance: ## Run the ONNX test cases and compare the counts with those on record
	$(call step,ONNX test cases)
	Tools/fetch-onnx-cases --version all
	Tools/check-conformance $(APUS)

sweeps: ## Compare random models of one node with onnxruntime
	$(call step,random models against onnxruntime)
	Tools/sweep-operators $(APUS) --count 3000 --out "$$APUS_DATA/sweep-failures"

models: ## Compare real models with onnxruntime
	$(call step,real models against onnxruntime)
	Tools/fetch-models --with-weighted
	Tools/make-references
	Tools/check-models $(APUS) $(if $(MODELS),--only $(MODELS))

profiles: ## Compare a small transformer, with one profile and with two, with an eager run
	$(call step,a transformer with profiles against an eager run)
	Tools/export-gemma3.py
	Tools/check-models $(APUS) "$$APUS_DATA/models" "$$APUS_DATA/gemma3_reduced-reference"

docs: build-tests ## Write docs/generated anew
	APUS_WRITE_DOCS=1 swift test -c release --skip-build --filter GeneratedDocsTests

bench: ## Time Apus, onnxruntime and openvino on real models
	$(BUILD) --product apus
	Tools/fetch-models
	Benchmarks/cpu_peers.py --json "$$APUS_DATA/bench.json" --require 0.5 0.25

clean: ## Remove what was built; fetched data stays
	swift package clean
