#!/bin/sh
# See that an image has a Caffe that this project can use; else end with one line: sh check-caffe.sh WHAT
# Where a GPU is there while the image is built, Caffe trains two iterations on it.
set -eu
what=$1

fail() {
  echo "error: $what does not do: $*; GPU_BASE= names another one (docs/docker.md)" >&2
  exit 1
}

last_line() {
  grep -v '^ *$' "$1" | tail -n 1
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

command -v python3 >/dev/null || fail "it has no python3"
python3 -c 'import sys; sys.exit(not (3, 9) <= sys.version_info < (3, 13))' ||
  fail "its python3 is $(python3 -V), 3.9 to 3.12 are needed (numpy 1, which Caffe was built for, has no newer)"
python3 -c 'import caffe; caffe.Net' >"$work/said" 2>&1 || fail "its python3 cannot import caffe ($(last_line "$work/said"))"
python3 -m pip --version >"$work/said" 2>&1 || fail "its python3 has no pip ($(last_line "$work/said"))"
command -v caffe >/dev/null || fail "it has no program caffe on PATH"
caffe -version >"$work/said" 2>&1 || fail "its caffe does not start ($(last_line "$work/said"))"
echo "$what has $(last_line "$work/said")"

[ -e "${NVIDIA:-/dev/nvidiactl}" ] || { echo "no GPU here while the image is built: nothing trained; make doctor GPU=0 does it"; exit 0; }
cat >"$work/net.prototxt" <<'TEXT'
layer { name: "data" type: "DummyData" top: "data" top: "target"
  dummy_data_param { shape { dim: 4 dim: 3 } shape { dim: 4 dim: 2 } data_filler { type: "gaussian" } data_filler { value: 1 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "fc" bottom: "target" top: "loss" }
TEXT
cat >"$work/solver.prototxt" <<TEXT
net: "$work/net.prototxt" max_iter: 2 base_lr: 0.01 lr_policy: "fixed" display: 1 solver_mode: GPU snapshot_prefix: "$work/s"
TEXT
caffe train -solver "$work/solver.prototxt" -gpu 0 >"$work/said" 2>&1 ||
  fail "its caffe cannot train on the GPU ($(grep -m 1 -E '^[FE][0-9]{4} ' "$work/said" || last_line "$work/said"))"
echo "two iterations trained on the GPU"
