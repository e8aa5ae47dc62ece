# The paper's pipeline: pictures -> clean -> LMDB -> stage 1 -> crops -> LMDB -> stage 2 -> table, report. Targets only say what is
# wanted: pycam/pipeline.py calls every step, and a step does nothing while nothing changed that its output depends on.
# `make help` lists targets and variables; the variables' defaults and meanings are in pycam/variables.py.

# Variables given on the command line reach the commands through the environment. Here are those that make itself needs.
ISIC    ?= data/isic2017
RUN     ?= build
NET     ?= vgg_gap
CAFFE   ?= .caffe
JOBS    ?= $(shell nproc)

# A misspelt variable or value ends make at once.
GIVEN := $(strip $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name))))
quoted = '$(subst ','\'',$(1))'
WRONG := $(if $(GIVEN),$(shell python3 -m pycam.variables $(foreach name,$(GIVEN),$(call quoted,$(name)=$($(name))))))
$(if $(WRONG),$(error $(WRONG)))

# PYTHON= names a Python that has all packages (the Docker images do); otherwise .venv is made when first needed.
ifdef PYTHON
PY := $(PYTHON)
else
PY := .venv/bin/python
SETUP := .venv/complete
endif
DEPLOY := prototxt/$(NET)_deploy.prototxt

.PHONY: help setup data weights doctor stage1 crops stage2 scratch table report curves all demo experiment
.PHONY: caffe docker docker-run test-images test test-all check resolve bench clean

help:
	@echo "make demo                   everything on made-up pictures, in minutes"
	@echo "make data                   fetch ISIC-2017 into ISIC (12 GB), unpack and check it; goes on after a break"
	@echo "make weights                fetch the public VGG-GAP, or with INIT=data/weights/VGG_ILSVRC_16_layers.caffemodel VGG-16"
	@echo "make doctor                 check everything before hours of training, and tell how long they take"
	@echo "make all ISIC=DIR INIT=W    the paper's run: stage1, crops, stage2, report"
	@echo "make stage1|crops|stage2|table|report    up to that step; what is up to date is not made again"
	@echo "make scratch                stage 1 again, from random weights: the other curve of the paper's Fig. 3, in the next report"
	@echo "make experiment             several seeds, controls and ablations with GoogLeNet-GAP (hours on a CPU)"
	@echo "make curves                 loss curves of the trainings that go on, live: RUN/results/curves.png"
	@echo "make clean                  delete what a run made in RUN; says what, touches nothing else"
	@echo "make setup|caffe            .venv with all packages; real CPU Caffe in $(CAFFE)"
	@echo "make docker|docker-run      build the image TARGET; run CMD in it with ISIC read-only and the results your own"
	@echo "make test-images            build every image and run the pipeline in them, with an engine of its own where none is"
	@echo "make test|test-all          the tests that take four to seven minutes on two cores; these and all others"
	@echo "make check|bench|resolve    style and types; measurements; are all pinned versions still to be had"
	@echo "variables:"; python3 -m pycam.variables

setup: $(SETUP)
.venv/complete: pyproject.toml constraints.txt
	@python3 -c 'import ensurepip, venv' 2>/dev/null || { echo "error: python3 cannot make virtual environments: apt-get install python3-venv" >&2; exit 1; }
	test -x .venv/bin/python || python3 -m venv .venv
	.venv/bin/python -m pip install --progress-bar on --quiet --disable-pip-version-check -c constraints.txt -e '.[torch,dask,dev]'
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[crosscheck]' \
	  || echo "note: without the challenge's own scorer (it needs a compiler here); its comparison is skipped" >&2
	@touch $@

# ------------------------------------------------------------ the pipeline
doctor stage1 crops stage2 scratch table report all demo clean: $(SETUP)
	@$(PY) -m pycam pipeline $@
experiment: $(SETUP)
	@$(PY) -m pycam experiment

data: $(SETUP)
	$(PY) -m data_tools download --out "$(ISIC)" --jobs $(JOBS)
weights: $(SETUP)
	$(PY) -m pycam weights fetch --net $(DEPLOY) --weights "$(or $(INIT),data/weights/vgg16CAM_train_iter_90000.caffemodel)"
# Live: the loss curves of every training of the run, drawn anew while they go on.
curves: $(SETUP)
	$(PY) -m pycam curves $(or $(wildcard $(RUN)/*/train.log),$(RUN)/stage1/train.log) --out $(RUN)/results/curves.png --follow

# ------------------------------------------------------------ real Caffe
caffe: $(CAFFE)/complete
$(CAFFE)/complete: tools/install_caffe.sh | $(SETUP)
	PYTHON=$(PY) sh tools/install_caffe.sh $(CAFFE)
	@touch $@

# ------------------------------------------------------------ Docker
-include docker/images.mk # a copy of the Makefile alone still trains

# ------------------------------------------------------------ tests, checks
# A machine without apt, or without its network, runs the tests that need no Caffe and says so.
# Not reordered: by itself xdist keeps files of few tests for the end, and the longest has one.
PYTEST = $(PY) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder
test: $(SETUP)
	@$(MAKE) --no-print-directory caffe || echo "note: no real Caffe here; its tests are skipped" >&2
	$(PYTEST) -m "not slow"

test-all: test
	$(PYTEST) -m slow
	@if [ -e $(CAFFE)/complete ]; then echo "the same engine tests inside real Caffe's Python:"; \
	  $(CAFFE)/bin/python3 -m pytest -q -c /dev/null --rootdir . -p no:cacheprovider tests/contract/test_engine_predict.py tests/unit/test_lmdb_io.py; fi

resolve: $(SETUP)
	sh tools/resolve.sh $(PY)

check: $(SETUP)
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) prototxt/generate.py --check

bench: $(SETUP)
	$(PY) benchmarks/speed.py --json benchmarks/results/speed.json
	PYTHONPATH=. $(PY) benchmarks/feeding.py --json benchmarks/results/feeding.json
	$(PY) benchmarks/startup.py --json benchmarks/results/startup.json
