#!/bin/sh
# The paper's experiment on the real ISIC-2017 pictures, with its controls and ablations (docs/results/README.md).
#
# usage: sh experiments/run.sh [ROW ...]        rows: the functions below; all of them without arguments
# example: ISIC=data/isic2017 INIT=bvlc_googlenet.caffemodel SEEDS=1 sh experiments/run.sh stages whole
#          KIND=fold SEEDS="1 2 3" ...: the same rows by cross-validation on the training pictures, to choose a recipe by (D22)
#
# Every step is a target of the Makefile, so a run that was interrupted goes on where it stopped.
set -eu
EXP=${EXP:-build/experiment}
ISIC=${ISIC:-data/isic2017}
INIT=${INIT:-data/weights/bvlc_googlenet.caffemodel}
SEEDS=${SEEDS:-1 2 3}
KIND=${KIND:-seed}  # seed: train on all training pictures, score the validation ones; fold: score a third of the training ones
PRECISION=${PRECISION:-bf16}
PYTHON=${PYTHON:-.venv/bin/python}
NET=googlenet_gap
COPIES=${COPIES-ISIC_0012970,ISIC_0012175,ISIC_0012271}  # training pictures that are validation or test pictures too (D20)
# Options of `pycam crops` for the row `tight`: of those tried, the best fit to lesion masks of training pictures (D21).
TIGHT=${TIGHT:---class scored --ground min --threshold 0.35}

# run FOLDER TARGET VARIABLE=VALUE ...: make a target of one run
run() {
    folder=$EXP/$1 target=$2
    shift 2
    make --no-print-directory PYTHON="$PYTHON" NET=$NET PRECISION="$PRECISION" ISIC="$ISIC" EXCLUDE=$COPIES RUN="$folder" "$@" "$folder/$target"
}

# link FOLDER PART ...: let a run use parts of another, which stand first in FOLDER=OTHER
link() {
    new=$EXP/${1%=*} old=${1#*=}
    shift
    for part in "$@"; do
        mkdir -p "$new/$(dirname "$part")"
        [ -e "$new/$part" ] || ln -s "$(realpath "$EXP/$old/$part")" "$new/$part"
    done
}

pictures() {
    for split in train val; do run . clean/$split/groundtruth.csv; done
    [ "$KIND" = seed ] || for fold in $SEEDS; do divide "$fold"; done
}

# divide FOLD: the pictures of one fold, which are free of hair already
divide() {
    [ -e "$EXP/folds/3_val.csv" ] || $PYTHON -m data_tools folds --images "$EXP/clean/train" --out "$EXP/folds"
    for split in train val; do
        [ -e "$EXP/fold$1/clean/$split/groundtruth.csv" ] || $PYTHON -m data_tools clean --hair none \
            --images "$EXP/clean/train" --truth "$EXP/folds/$1_$split.csv" --out "$EXP/fold$1/clean/$split"
    done
}

# Stage 1, crops by the paper's rule, stage 2: the rows of Table 1.
stages() {
    for seed in $SEEDS; do
        link "$KIND$seed=." clean
        run "$KIND$seed" results/table1.csv SEED="$seed" INIT="$INIT"
    done
}

# second NAME SEEDS VARIABLE=VALUE ...: another stage 2 on the stage 1 of each seed, of the runs with the suffix BASE
BASE=
second() {
    name=$1 seeds=$2
    shift 2
    for seed in $seeds; do
        base=$KIND$seed$BASE
        link "$base-$name=$base" clean stage1 lmdb/stage1_train lmdb/stage1_val
        run "$base-$name" results/stage2_val.csv SEED="$seed" "$@"
    done
}

first() { for seed in $SEEDS; do echo "$seed"; break; done; }

# The control without which no claim stands: the same training again, on whole pictures.
whole() { second whole "$SEEDS" REGION="--control whole"; }
# Boxes that were chosen by how well they fit lesion masks of training pictures.
tight() { second tight "$SEEDS" REGION="$TIGHT"; }
centre() { second centre "$(first)" REGION="$TIGHT --control centre"; }
random() { second random "$(first)" REGION="$TIGHT --control random"; }
released() { second released "$(first)" REGION="--rule released"; }
stretch() { second stretch "$(first)" REGION="$TIGHT --placement stretch"; }
pretrained() { second pretrained "$(first)" REGION="$TIGHT" START2="$INIT"; }

# other NAME SEEDS TARGET VARIABLE=VALUE ...: another stage 1, and what follows from it
other() {
    name=$1 seeds=$2 target=$3
    shift 3
    for seed in $seeds; do
        [ "$KIND" = seed ] && link "seed$seed-$name=." clean || link "$KIND$seed-$name=$KIND$seed" clean
        run "$KIND$seed-$name" "$target" SEED="$seed" INIT="$INIT" "$@"
    done
}

oversample() { other oversample "$(first)" results/stage1_val.csv BALANCE=oversample; }
# Patches drawn anew each time instead of the paper's five (D23), in both stages; and the control of these.
patches() {
    set -- SOLVERS=googlenet_random_ AUGMENT=random
    other patches "$SEEDS" results/table1.csv "$@"
    BASE=-patches
    second whole "$SEEDS" REGION="--control whole" "$@"
    BASE=
    for seed in $SEEDS; do
        predict "$KIND$seed-patches" stage1 clean stage1_val_ten --views ten
        predict "$KIND$seed-patches" stage2 crops stage2_val_ten --views ten
        predict "$KIND$seed-patches-whole" stage2 crops stage2_val_ten --views ten
    done
}
# The other curve of the paper's Fig. 3: every layer learns, from random weights.
scratch() {
    seed=$(first)
    run "$KIND$seed" stage1_scratch/final.caffemodel SEED="$seed"
    predict "$KIND$seed" stage1_scratch clean scratch_val
}
hairy() {
    seed=$(first)
    run "$KIND$seed-hairy" results/stage1_val.csv SEED="$seed" INIT="$INIT" HAIR=none
}

# Ten views of the stages' networks (D17).
views() {
    for seed in $SEEDS; do
        predict "$KIND$seed" stage1 clean stage1_val_ten --views ten
        predict "$KIND$seed" stage2 crops stage2_val_ten --views ten
        for name in tight whole; do predict "$KIND$seed-$name" stage2 crops stage2_val_ten --views ten; done
    done
}

# predict RUN WEIGHTS PICTURES NAME OPTION ...
predict() {
    folder=$EXP/$1 weights=$2 pictures=$3 out=$EXP/$1/results/$4.csv
    shift 4
    [ -e "$out" ] || $PYTHON -m pycam predict --net prototxt/googlenet_gap_deploy.prototxt --weights "$folder/$weights" \
        --images "$folder/$pictures/val" --precision "$PRECISION" --out "$out" "$@"
}

# The paper's own network, every width divided by 8, from random weights; and the control. Make may know INIT by itself.
narrow() {
    NET=vgg_gap_narrow KIND=narrow
    for seed in $SEEDS; do
        link "narrow$seed=." clean
        run "narrow$seed" results/table1.csv SEED="$seed" INIT=
    done
    second whole "$SEEDS" REGION="--control whole" INIT=
    NET=googlenet_gap KIND=seed
}

[ -e "$INIT" ] || {
    echo "error: $INIT: no pretrained GoogLeNet there; make weights INIT=$INIT fetches it, pycam weights import makes it of arrays" >&2
    exit 1
}
[ $# -gt 0 ] || set -- stages whole tight views patches scratch narrow pretrained oversample hairy centre random released stretch
case $KIND-$* in
fold*hairy* | fold*narrow*) echo "error: the rows hairy and narrow are for KIND=seed; leave them out" >&2; exit 1 ;;
esac
pictures
for row in "$@"; do "$row"; done
