#!/bin/sh
# Show that a package index still has every version that the project pins or asks for, on each Python, without installing.
#
# usage: sh tools/resolve.sh [PYTHON]        PYTHON: one with pip and uv; default .venv/bin/python
# example: sh tools/resolve.sh .venv/bin/python
#
# The images' files are resolved by pip, which builds the images; the project's ranges by uv, since pip cannot judge another
# Python's environment markers.
set -eu
cd "$(dirname "$0")/.."
python=${1:-.venv/bin/python}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
resolved=0

told() { # NAME PYTHON FILE COMMAND ...: run a command, count the versions in FILE, or end with the command's last line
  name=$1 version=$2 file=$3
  shift 3
  if ! "$@" >"$scratch/out" 2>"$scratch/err"; then
    echo "error: $name does not resolve for Python $version: $(grep -v '^ *$' "$scratch/err" | tail -n 1)" >&2
    exit 1
  fi
  resolved=$((resolved + 1))
  echo "$name, Python $version: $(grep -c == "$file") packages"
}

image() { # FILE PYTHON
  told "docker/$1" "$2" "docker/$1" "$python" -m pip install --dry-run --quiet --ignore-installed --target "$scratch/none" \
    --disable-pip-version-check --python-version "$2" --only-binary=:all: --requirement "docker/$1"
}

image constraints-gpu.txt 3.10
image constraints-torch.txt 3.11
for version in 3.9 3.10 3.11 3.13; do
  told "pyproject.toml[torch,dask,dev]" "$version" "$scratch/out" "$python" -m uv pip compile --quiet --no-build --no-header --no-annotate \
    --python-version "$version" --constraint constraints.txt --extra torch --extra dask --extra dev pyproject.toml
done
echo "resolved: $resolved of 6"
