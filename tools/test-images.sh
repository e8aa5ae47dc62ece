#!/bin/bash
# Build the images and run the pipeline in them: with the Docker engine that answers here, or else with one started for it alone.
#
# usage: bash tools/test-images.sh [PYTHON [WORDS]]    PYTHON: one with pytest, default .venv/bin/python; WORDS: for pytest
# example: bash tools/test-images.sh .venv/bin/python -k signal
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-.venv/bin/python}
work=""

finish() {
  status=$?
  [ -z "$work" ] || tools/docker-engine.sh stop "$work/engine"
  rm -rf "$work"
  exit "$status"
}
trap finish EXIT

own_engine() { # the bases that it cannot pull are made of Debian's packages
  work=$(mktemp -d /tmp/imagesXXXX) # short: a socket's path has 108 characters at most
  chmod 755 "$work"
  echo "starting a Docker engine in $work/engine" >&2
  tools/docker-engine.sh start "$work/engine"
  export PATH=$work/engine/bin:$PATH CPU_BASE=debian:11-slim
  IMAGES_REGISTRY=$(cat "$work/engine/registry.address")
  export IMAGES_REGISTRY
  tools/docker-engine.sh base "$work/engine" bullseye debian:11-slim &
  tools/docker-engine.sh base "$work/engine" bookworm debian:12-slim
  wait $!
}

if docker info >/dev/null 2>&1; then
  export IMAGES=found
elif reason=$(tools/docker-engine.sh check 2>&1); then
  own_engine
  export IMAGES=own
else
  export IMAGES="no Docker engine answers and none can be started: ${reason#error: }"
fi
"$python" -m pytest -q -n 0 -p no:cacheprovider tests/images "${@:2}"
