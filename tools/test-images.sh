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
  [ -z "$work" ] || tools/docker-engine.sh stop "$work/engine" || status=1
  rm -rf "$work"
  exit "$status"
}
trap finish EXIT

bring_up() { # the bases that it cannot pull are made of Debian's packages
  local made
  tools/docker-engine.sh start "$work/engine" || return
  tools/docker-engine.sh base "$work/engine" bullseye debian:11-slim &
  tools/docker-engine.sh base "$work/engine" bookworm debian:12-slim
  made=$?
  wait $! && return $made
}

own_engine() { # or, where this machine lets none be brought up, the reason; whatever ends without one is a fault
  local reason
  work=$(mktemp -d /tmp/imagesXXXX) # short: a socket's path has 108 characters at most
  chmod 755 "$work"
  echo "starting a Docker engine in $work/engine" >&2
  if bring_up 2>"$work/said"; then
    export IMAGES=own PATH=$work/engine/bin:$PATH CPU_BASE=debian:11-slim
    IMAGES_REGISTRY=$(cat "$work/engine/registry.address")
    export IMAGES_REGISTRY
  else
    reason=$(sed -n 's/^error: //p' "$work/said" | head -n 1)
    [ -n "$reason" ] || { cat "$work/said" >&2; exit 1; }
    export IMAGES="no Docker engine answers and none can be started: $reason"
  fi
}

if docker info >/dev/null 2>&1; then
  DOCKER_HOST=$(docker context inspect --format '{{.Endpoints.docker.Host}}') # for users whose settings name no engine
  export IMAGES=found DOCKER_HOST
else
  own_engine
fi
"$python" -m pytest -q -n 0 -p no:cacheprovider tests/images "${@:2}"
