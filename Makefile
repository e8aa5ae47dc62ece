# The paper's pipeline, one arrow a rule: pictures -> clean -> LMDB -> stage 1 -> crops -> LMDB -> stage 2 -> table, report.
# Every recipe can be typed by hand. `make help` lists targets and variables.

ISIC    ?= data/isic2017# the pictures and their label files
RUN     ?= build#          everything that is made
NET     ?= vgg_gap#        vgg_gap (pretrained: INIT=), vgg_gap_narrow (a CPU, from scratch), googlenet_gap (D19)
ENGINE  ?= auto#           caffe, torch, or auto: Caffe where Python imports it, else torchcaffe
GPU     ?=#                number of the GPU; none: the CPU
PRECISION ?=#              bf16, or on a GPU tf32: torchcaffe computes with fewer bits, faster; none: as Caffe
INIT    ?=#                .caffemodel that stage 1 starts from
BATCH   ?=#                pictures computed at a time, when memory is short; results stay the same
SEED    ?=#                of the records' order and of the training, instead of the solver's
RESUME  ?= yes#            no: train anew instead of going on from the newest snapshot
AUGMENT ?= paper#          paper: 30 records a picture; none: one; random: four, for SOLVERS=googlenet_random_ (D23)
REGION  ?=#                options of `pycam crops`, such as --threshold 0.5 (D09)
HAIR    ?=#                hair removal: along (the default), letter (D18), none (D06)
EXCLUDE ?=#                training pictures to leave out, ISIC_0000001,ISIC_0000002 (D20)
BALANCE ?=#                oversample: rare classes as often as the others in the training records (D15)
START2  ?=#                .caffemodel that stage 2 starts from, instead of stage 1's (D11)
JOBS    ?= $(shell nproc)# processes that prepare pictures

SOLVERS ?= $(patsubst vgg_gap%,%,$(patsubst googlenet_gap,googlenet_,$(NET:vgg_gap_%=%_)))# prefix of the solver files
DEPLOY  := prototxt/$(NET)_deploy.prototxt
CAFFE   ?= .caffe#         where `make caffe` puts real Caffe

# PYTHON= names a Python that has all packages (the Docker images do); otherwise .venv is made when first needed.
ifdef PYTHON
PY := $(PYTHON)
else
PY := .venv/bin/python
SETUP := .venv/complete
endif
# Caffe's own Python runs what needs a network where `make caffe` installed it and the other one has none.
NETPY = $(if $(and $(filter caffe,$(ENGINE)),$(wildcard $(CAFFE)/complete)),$(CAFFE)/bin/python3,$(PY))
USE = --engine $(ENGINE) $(if $(GPU),--gpu $(GPU)) $(if $(PRECISION),--precision $(PRECISION))
RECORDS = --augment $(AUGMENT) $(if $(BALANCE),--balance $(BALANCE))
TRAIN = $(NETPY) -m pycam train --run $(RUN) $(USE) $(if $(BATCH),--batch $(BATCH)) $(if $(SEED),--seed $(SEED)) $(if $(filter no,$(RESUME)),--fresh)
DOCTOR = $(NETPY) -m pycam doctor --run $(RUN) $(USE) --isic $(ISIC) --net $(DEPLOY) --solver solvers/$(SOLVERS)stage1.prototxt solvers/$(SOLVERS)stage2.prototxt $(if $(BATCH),--batch $(BATCH)) $(if $(INIT),--weights $(INIT)) $(if $(START2),--start2 $(START2))

.DELETE_ON_ERROR:
.PHONY: help setup data weights doctor first stage1 crops stage2 scratch table report curves all demo experiment
.PHONY: caffe docker docker-run test check resolve bench clean
.SECONDARY:

help:
	@echo "make demo                   everything on made-up pictures, in minutes"
	@echo "make data                   fetch ISIC-2017 into ISIC (12 GB), unpack and check it; goes on after a break"
	@echo "make weights                fetch the public VGG-GAP, or with INIT=data/weights/VGG_ILSVRC_16_layers.caffemodel VGG-16"
	@echo "make doctor                 check everything before hours of training; stage1, stage2 and all do it first"
	@echo "make all ISIC=DIR INIT=W    the paper's run: stage1, crops, stage2, report"
	@echo "make stage1|crops|stage2|report    up to that step; what exists is not made again"
	@echo "make scratch                stage 1 again, from random weights: the other curve of the paper's Fig. 3, in the next report"
	@echo "make experiment             several seeds, controls and ablations with GoogLeNet-GAP (hours on a CPU)"
	@echo "make curves                 loss curves of the trainings that go on, live: RUN/results/curves.png"
	@echo "make setup|caffe            .venv with all packages; real CPU Caffe in $(CAFFE)"
	@echo "make docker|docker-run      build the image TARGET; run CMD in it with ISIC read-only and the results your own"
	@echo "make test|check|bench|resolve    tests; style and types; measurements; are all pinned versions still to be had"
	@echo "variables:"; sed -n 's/^\([A-Z]*\) *?= *\([^#]*\)# *\(.*\)/  \1=\2  \3/p' Makefile

setup: $(SETUP)
.venv/complete: pyproject.toml constraints.txt
	@python3 -c 'import ensurepip, venv' 2>/dev/null || { echo "error: python3 cannot make virtual environments: apt-get install python3-venv" >&2; exit 1; }
	test -x .venv/bin/python || python3 -m venv .venv
	.venv/bin/python -m pip install --progress-bar on --quiet --disable-pip-version-check -c constraints.txt -e '.[torch,dask,dev]'
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[crosscheck]' \
	  || echo "note: without the challenge's own scorer (it needs a compiler here); its comparison is skipped" >&2
	@touch $@

# ------------------------------------------------------------ the pipeline
data: $(SETUP)
	$(PY) -m data_tools download --out $(ISIC) --jobs $(JOBS)
weights: $(SETUP)
	$(NETPY) -m pycam weights fetch --net $(DEPLOY) --weights $(or $(INIT),data/weights/vgg16CAM_train_iter_90000.caffemodel)

doctor: $(SETUP)
	@$(DOCTOR)
first: $(SETUP)
	@$(DOCTOR) --quiet

stage1: first $(RUN)/stage1/final.caffemodel
crops:  $(RUN)/crops/train/groundtruth.csv $(RUN)/crops/val/groundtruth.csv
stage2: first $(RUN)/stage2/final.caffemodel
scratch: $(RUN)/stage1_scratch/final.caffemodel
table:  $(RUN)/results/table1.csv
report: $(RUN)/results/report.html
	@cat $(RUN)/results/table1.md; echo "report: $<"
all: first report

$(RUN)/clean/%/groundtruth.csv: | $(SETUP)
	$(PY) -m data_tools clean --isic $(ISIC) --split $* --out $(@D) $(if $(HAIR),--hair $(HAIR)) $(if $(filter train,$*),$(if $(EXCLUDE),--exclude $(EXCLUDE))) --jobs $(JOBS)

$(RUN)/lmdb/stage1_%/manifest.json: $(RUN)/clean/%/groundtruth.csv
	$(PY) -m data_tools lmdb --images $(<D) --out $(@D) $(if $(filter train,$*),$(RECORDS),--augment none) $(if $(SEED),--seed $(SEED)) --jobs $(JOBS)
$(RUN)/lmdb/stage2_%/manifest.json: $(RUN)/crops/%/groundtruth.csv
	$(PY) -m data_tools lmdb --images $(<D) --out $(@D) $(if $(filter train,$*),$(RECORDS),--augment none) $(if $(SEED),--seed $(SEED)) --jobs $(JOBS)

$(RUN)/stage1/final.caffemodel: $(RUN)/lmdb/stage1_train/manifest.json $(RUN)/lmdb/stage1_val/manifest.json $(INIT)
	$(TRAIN) --solver solvers/$(SOLVERS)stage1.prototxt --stage stage1 $(if $(INIT),--weights $(INIT))
$(RUN)/stage1_scratch/final.caffemodel: $(RUN)/lmdb/stage1_train/manifest.json $(RUN)/lmdb/stage1_val/manifest.json
	$(TRAIN) --solver solvers/$(SOLVERS)stage1_scratch.prototxt --stage stage1 --into stage1_scratch
$(RUN)/stage2/final.caffemodel: $(RUN)/lmdb/stage2_train/manifest.json $(RUN)/lmdb/stage2_val/manifest.json
	$(TRAIN) --solver solvers/$(SOLVERS)stage2.prototxt --stage stage2 --weights $(or $(START2),$(RUN)/stage1)

$(RUN)/crops/%/groundtruth.csv: $(RUN)/stage1/final.caffemodel $(RUN)/clean/%/groundtruth.csv
	$(NETPY) -m pycam crops --net $(DEPLOY) --weights $< --images $(RUN)/clean/$* --out $(@D) $(REGION) $(USE)

$(RUN)/results/stage1_%.csv: $(RUN)/stage1/final.caffemodel $(RUN)/clean/%/groundtruth.csv
	$(NETPY) -m pycam predict --net $(DEPLOY) --weights $< --images $(RUN)/clean/$* --out $@ $(USE)
$(RUN)/results/stage2_%.csv: $(RUN)/stage2/final.caffemodel $(RUN)/crops/%/groundtruth.csv
	$(NETPY) -m pycam predict --net $(DEPLOY) --weights $< --images $(RUN)/crops/$* --out $@ $(USE)

$(RUN)/results/table1.csv: $(RUN)/results/stage1_val.csv $(RUN)/results/stage2_val.csv
	$(PY) -m pycam table1 --truth $(RUN)/clean/val/groundtruth.csv --stage1 $< --stage2 $(word 2,$^) --out $(@D)
$(RUN)/results/report.html: $(RUN)/results/table1.csv $(wildcard $(RUN)/stage1_scratch/final.caffemodel)
	$(NETPY) -m pycam report --run $(RUN) --net $(DEPLOY) --out $@ $(USE)

# Live: the loss curves of every training of the run, drawn anew while they go on.
curves: | $(SETUP)
	$(PY) -m pycam curves $(or $(wildcard $(RUN)/*/train.log),$(RUN)/stage1/train.log) --out $(RUN)/results/curves.png --follow

# ------------------------------------------------------------ the same on made-up pictures
# The made-up lesions are small and the training short, so the maps stand on a raised ground: a higher threshold cuts it off.
DEMO := build/demo
demo: $(DEMO)/isic/val/groundtruth.csv
	$(MAKE) --no-print-directory report RUN=$(DEMO) ISIC=$(DEMO)/isic NET=vgg_gap_narrow SOLVERS=demo_ AUGMENT=none \
	  REGION="--threshold 0.65"
$(DEMO)/isic/val/groundtruth.csv: | $(SETUP)
	$(PY) -m data_tools synthetic --out $(DEMO)/isic --train 600 --val 150 --seed 1

# ------------------------------------------------------------ the paper's experiment, with controls and ablations (D19)
EXPERIMENT := build/experiment
experiment: | $(SETUP)
	EXP=$(EXPERIMENT) ISIC=$(ISIC) INIT=$(INIT) PYTHON=$(PY) sh experiments/run.sh $(ROWS)
	$(PY) -m pycam summary --rows experiments/rows.csv --root $(EXPERIMENT) --truth $(EXPERIMENT)/clean/val/groundtruth.csv \
	  --out $(EXPERIMENT)/table1

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
test: $(SETUP)
	@$(MAKE) --no-print-directory caffe || echo "note: no real Caffe here; its tests are skipped" >&2
	$(PY) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder
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

clean:
	rm -rf $(RUN)
