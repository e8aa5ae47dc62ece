#!/bin/sh
# Show that a package index still has every version that the project pins or asks for, on each Python, without installing.
#
# usage: sh tools/resolve.sh [PYTHON]        PYTHON: one with uv; default .venv/bin/python
# example: sh tools/resolve.sh .venv/bin/python
#
# Only descriptions of packages are fetched. An image's versions must come out as its file has them: none missing, none unpinned.
set -eu
cd "$(dirname "$0")/.."
python=${1:-.venv/bin/python}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
resolved=0

fail() {
  echo "error: $*" >&2
  exit 1
}

resolve() { # NAME PYTHON WORD ...: write the versions that uv finds for a Python to $scratch/out, count the resolution
  name=$1 version=$2
  shift 2
  "$python" -m uv pip compile --quiet --no-build --no-header --no-annotate --python-version "$version" "$@" \
    >"$scratch/out" 2>"$scratch/err" ||
    fail "$name does not resolve for Python $version: $(grep -v '^ *$' "$scratch/err" | tail -n 1)"
  resolved=$((resolved + 1))
  echo "$name, Python $version: $(grep -c == "$scratch/out") packages"
}

image() { # NAME PYTHON [OPTION]
  versions=docker/requirements-$1.txt
  resolve "$versions" "$2" ${3:+"$3"} --constraint "$versions" "docker/requirements-$1.in"
  grep == "$versions" >"$scratch/pinned"
  grep -v "sys_platform == 'win32'" "$scratch/out" | diff "$scratch/pinned" - >"$scratch/differs" ||
    fail "$versions is not what resolves: $(grep -m 1 '^[<>]' "$scratch/differs" | sed 's/^</has /; s/^>/lacks /')"
}

image gpu 3.9 --universal
image torch 3.11
resolve docker/requirements-cpu.txt 3.9 docker/requirements-cpu.txt
for version in 3.9 3.10 3.11 3.13; do
  resolve "pyproject.toml[torch,dask,dev]" "$version" --constraint constraints.txt --extra torch --extra dask --extra dev pyproject.toml
done
echo "resolved: $resolved of 7"
