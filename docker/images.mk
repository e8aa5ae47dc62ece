# The Docker images, a part of the Makefile: docs/docker.md.

TARGET  ?= gpu#            Docker image: gpu (Caffe, CUDA 11.8), cpu (Debian's Caffe), torch (torchcaffe, CUDA 12.8)
CMD     ?= make help#      what docker-run runs in the image
IMAGE   ?= skin-lesion-cam:$(TARGET)# name of the image that is built and run
OPTIONS ?=#                more options of docker run; docs/docker.md has those for SELinux, rootless engines, read-only images
GPUS    ?= $(if $(filter cpu,$(TARGET)),,all)# GPUs that the image sees; none: GPUS=
DIGEST  ?=#                of the base image, sha256:..., instead of the one that its variable names
DEBIAN_MIRROR ?=#          a mirror that has Debian 11, for the image cpu and for make caffe
# The images that ours are built on, each a line to pin: a tag can be moved to other contents, a digest cannot.
CPU_BASE   ?= debian:11-slim@sha256:e5b6442dd2e9684cf5e87d8338b5968f3b348636fc0be6d7850a381e3731a2bd
GPU_BASE   ?= duruyao/caffe:gpu
TORCH_BASE ?= pytorch/pytorch:2.7.1-cuda12.8-cudnn9-runtime@sha256:c16f4c749e2d9e96878875cdf6cc45cddda1d1a36fddd371dd6f2360f1b6e2a2
# Variables of the pipeline: the make in the image gets those that were given to this one, or in its environment. Not PYTHON and
# CAFFE, which say where this machine has them: the image has its own. Not those above, which say what is built and run here.
PIPELINE := ISIC RUN NET INIT START2 SPLIT ENGINE GPU PRECISION BATCH SEED MAX_ITER RESUME AUGMENT BALANCE HAIR EXCLUDE REGION RECORDS PATCH EDIT SOLVERS \
  JOBS ROWS SEEDS FOLDS

BASES := cpu=$(CPU_BASE) gpu=$(GPU_BASE) torch=$(TORCH_BASE)
BASE = $(patsubst $(TARGET)=%,%,$(filter $(TARGET)=%,$(BASES)))
PINNED = $(if $(DIGEST),$(firstword $(subst @, ,$(BASE)))@$(DIGEST),$(BASE))
argument = $(if $2,--build-arg $1=$2)
VERSION = $(shell sed -n 's/^PROJECT = "\(.*\)"/\1/p' torchcaffe/version.py)
REVISION = $(shell git describe --always --abbrev=40 --dirty --exclude '*' 2>/dev/null)
ORIGIN = $(shell git config --get remote.origin.url 2>/dev/null | sed 's|//[^/@]*@|//|')# without a password
BUILD = docker build --file docker/$(TARGET).Dockerfile --build-arg BASE=$(PINNED) \
  $(call argument,DEBIAN_MIRROR,$(if $(filter cpu,$(TARGET)),$(DEBIAN_MIRROR))) $(call argument,SOURCE,$(ORIGIN)) \
  $(call argument,VERSION,$(VERSION)) $(call argument,REVISION,$(REVISION)) --tag $(IMAGE) .

# The repository is mounted at /project, so results lie in it and belong to the caller. What else a run reads and writes is
# mounted where the same name finds it: pictures and weights read-only, but writable for what makes or fetches them.
within = $(abspath $(if $(filter /%,$1),,/project/)$1)
outside = $(if $1,$(if $(filter $(CURDIR)/%,$(or $(realpath $1),$(abspath $1))/.),,$1))
mount = -v "$(abspath $1):$(call within,$1)$2"
MAKES = $(filter data download synthetic demo,$(CMD))
FETCHES = $(filter weights,$(CMD))
WRITTEN = $(call outside,$(RUN)) $(if $(MAKES),$(call outside,$(ISIC))) $(if $(FETCHES),$(dir $(call outside,$(INIT))))
READ = $(if $(MAKES),,$(wildcard $(ISIC))) $(if $(FETCHES),,$(wildcard $(call outside,$(INIT)))) $(wildcard $(call outside,$(START2)))
MOUNTS = $(foreach path,$(WRITTEN),$(call mount,$(path))) $(foreach path,$(READ),$(call mount,$(path),:ro))
HANDED = $(foreach name,$(PIPELINE),$(if $(filter command environment,$(firstword $(origin $(name)))),$(name)))
RUNNING = $(if $(strip $(WRITTEN)),mkdir -p $(WRITTEN) &&) docker run --rm $(if $(GPUS),--gpus $(GPUS)) --shm-size 1g \
  --stop-timeout 90 --user "$$(id -u):$$(id -g)" $(OPTIONS) -v "$(CURDIR):/project" $(MOUNTS) \
  $(foreach name,$(HANDED),-e $(call quoted,$(name)=$($(name)))) --entrypoint tini $(IMAGE) -g -- $(CMD)

# Make itself says the command and the error, so that it adds no line of its own.
DOCKER_ANSWERS = $(if $(shell docker info >/dev/null 2>&1 && echo yes),,$(error no Docker engine answers here (docker info): install and start Docker; without it: make caffe))

.PHONY: docker docker-run test-images
docker:
	$(info $(strip $(BUILD)))$(DOCKER_ANSWERS)
	@$(BUILD)
docker-run:
	$(foreach name,ISIC INIT START2,$(if $(word 2,$($(name))),$(error $(name)=$($(name)): docker-run mounts no path with spaces; move it)))
	$(info $(strip $(RUNNING)))$(DOCKER_ANSWERS)
	@$(RUNNING)

test-images: $(SETUP)
	@$(MAKE) --no-print-directory caffe || echo "note: no real Caffe here; nothing is compared with the images" >&2
	@bash tools/test-images.sh $(PY)
