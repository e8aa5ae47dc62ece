"""Which commands each target of the Makefile needs, in which order; all can be typed by hand."""
import shlex
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence

from .errors import CamError
from .variables import values

DEMO_PICTURES = {"train": "600", "val": "320", "seed": "1", "height": "330", "width": "440"}
DEPLOY = "deploy.prototxt"  # of a run whose net has other fields than the committed one
PREFIXES = {"vgg_gap": "", "vgg16_gap": "vgg16_", "vgg_gap_narrow": "narrow_", "googlenet_gap": "googlenet_"}  # of solver files

Words = List[str]  # of a command, its module first


class Run(NamedTuple):
    """A run: the values of the Makefile's variables, and where its hair-free pictures and its stage 1 are."""

    values: Dict[str, str]
    pictures: Path
    first: Path

    @property
    def folder(self) -> Path:
        """Where everything else goes."""
        return Path(self.values["RUN"])

    def option(self, flag: str, name: str) -> Words:
        """Return an option with the value of a variable; nothing where it has none."""
        return [flag, self.values[name]] if self.values[name] else []

    @property
    def net(self) -> str:
        """Return the deploy prototxt: that of NET, or the run's own with other fields."""
        return str(self.folder / DEPLOY) if self.edits else self.named_net

    @property
    def named_net(self) -> str:
        """Return the deploy prototxt of NET."""
        return f"prototxt/{self.values['NET']}_deploy.prototxt"

    @property
    def edits(self) -> Words:
        """Return the options of EDIT and PATCH."""
        words = split_words(self, "EDIT")
        return [*(part for word in words for part in ("--edit", word)), *self.option("--patch", "PATCH")]

    def solver(self, training: str) -> str:
        """Return the solver file of a training."""
        return f"solvers/{self.values['SOLVERS'] or PREFIXES[self.values['NET']]}{training}.prototxt"

    @property
    def use(self) -> Words:
        """Return the options of the engine."""
        return ["--engine", self.values["ENGINE"], *self.option("--gpu", "GPU"), *self.option("--precision", "PRECISION")]


def make_run(words: Dict[str, str], pictures: Optional[Path] = None, first: Optional[Path] = None) -> Run:
    """Return a run of given values; pictures and stage 1 may be those of other runs."""
    found = values(words)
    folder = Path(found["RUN"])
    return Run(found, pictures or folder / "clean", first or folder)


def clean_words(run: Run, split: str) -> Words:
    """Return the command that makes hair-free copies of a split."""
    left_out = run.option("--exclude", "EXCLUDE") if split == "train" else []
    return ["data_tools", "clean", "--isic", run.values["ISIC"], "--split", split, "--out", str(run.pictures / split),
            "--hair", run.values["HAIR"], *left_out, *run.option("--jobs", "JOBS")]


def edit_words(run: Run) -> Words:
    """Return the command that writes the run's own deploy net."""
    return ["pycam", "edit", "--net", run.named_net, "--out", run.net, *run.edits]


def lmdb_words(run: Run, stage: str, split: str) -> Words:
    """Return the command that makes the LMDB of a stage and split."""
    root, images = (run.first, run.pictures) if stage == "stage1" else (run.folder, run.folder / "crops")
    train = ["--augment", run.values["AUGMENT"], "--balance", run.values["BALANCE"], *split_words(run, "RECORDS")]
    how = [*(train if split == "train" else ["--augment", "none"]), *run.option("--patch-size", "PATCH")]
    return ["data_tools", "lmdb", "--images", str(images / split), "--out", str(root / "lmdb" / f"{stage}_{split}"), *how,
            *run.option("--seed", "SEED"), *run.option("--jobs", "JOBS")]


def train_words(run: Run, training: str) -> Words:
    """Return the command of a training: ``stage1``, ``stage1_scratch`` or ``stage2``."""
    start = {"stage1": run.values["INIT"], "stage2": run.values["START2"] or str(run.first / "stage1")}.get(training, "")
    return ["pycam", "train", "--solver", run.solver(training), "--stage", training[:len("stage1")], "--run",
            str(run.folder if training == "stage2" else run.first), *(["--into", training] if training[len("stage1"):] else []),
            *(["--weights", start] if start else []), *run.use, *run.option("--batch", "BATCH"), *run.option("--seed", "SEED"),
            *run.option("--max-iter", "MAX_ITER"), *run.edits, *(["--fresh"] if run.values["RESUME"] == "no" else [])]


def crops_words(run: Run, split: str) -> Words:
    """Return the command that cuts the regions of a split."""
    return ["pycam", "crops", "--net", run.net, "--weights", str(run.first / "stage1"), "--images", str(run.pictures / split),
            "--out", str(run.folder / "crops" / split), *split_words(run, "REGION"), *run.use]


def split_words(run: Run, name: str) -> Words:
    """Return the words of a variable's value, as a shell reads them."""
    try:
        return shlex.split(run.values[name])
    except ValueError as error:
        raise CamError(f"{name}={run.values[name]}: {error}") from error


def predict_words(run: Run, training: str, split: str, name: str = "", *options: str) -> Words:
    """Return the command that predicts a split with a trained network; `name` is of the file, if not ``TRAINING_SPLIT``."""
    root, images = (run.folder, run.folder / "crops") if training == "stage2" else (run.first, run.pictures)
    return ["pycam", "predict", "--net", run.net, "--weights", str(root / training), "--images", str(images / split), "--out",
            str(run.folder / "results" / f"{name or f'{training}_{split}'}.csv"), *options, *run.use]


def table_words(run: Run, split: str) -> Words:
    """Return the command that makes Table 1."""
    results = run.folder / "results"
    files = [word for stage in ("stage1", "stage2") for word in (f"--{stage}", str(results / f"{stage}_{split}.csv"))]
    return ["pycam", "table1", "--truth", str(run.pictures / split / "groundtruth.csv"), *files, "--out", str(results),
            "--split", split]


def report_words(run: Run, split: str) -> Words:
    """Return the command that writes the report."""
    return ["pycam", "report", "--run", str(run.folder), "--net", run.net, "--split", split, "--out", str(report_file(run)),
            "--isic", run.values["ISIC"], *run.use]


def report_file(run: Run) -> Path:
    """Return the page of a run."""
    split = run.values["SPLIT"]
    return run.folder / "results" / f"report{'' if split == 'val' else f'_{split}'}.html"


def doctor_words(run: Run, solvers: Sequence[str]) -> Words:
    """Return the command that checks everything before trainings with some solvers."""
    return ["pycam", "doctor", "--run", str(run.folder), "--isic", run.values["ISIC"], "--net", run.net, "--solver",
            *solvers, *run.option("--weights", "INIT"), *run.option("--start2", "START2"), *run.use,
            *run.option("--batch", "BATCH"), *run.option("--max-iter", "MAX_ITER"), *run.edits]


def synthetic_words(run: Run) -> Words:
    """Return the command that makes the pictures of the demo."""
    numbers = [word for name, value in DEMO_PICTURES.items() for word in (f"--{name}", value)]
    return ["data_tools", "synthetic", "--out", run.values["ISIC"], *numbers, *run.option("--jobs", "JOBS")]


def commands(run: Run, target: str, split: str = "") -> List[Words]:
    """Return the commands of a target, in their order; pictures of a split are prepared for prediction too."""
    if target == "clean":
        return []
    own = [edit_words(run)] if run.edits else []
    if target == "doctor":
        return [*own, doctor_words(run, [run.solver(training) for training in ("stage1", "stage2")])]
    if target == "demo":
        return [synthetic_words(run), *commands(run, "report", split)]
    later = target not in ("stage1", "scratch")
    scored = run.values["SPLIT"] if target in ("table", "report", "all") else ""
    splits = list(dict.fromkeys(filter(None, ("train", "val", scored, split))))
    found = [*own, *(clean_words(run, part) for part in splits)]
    found += [lmdb_words(run, "stage1", part) for part in ("train", "val")]
    if target == "scratch":
        return [*found, train_words(run, "stage1_scratch")]
    found.append(train_words(run, "stage1"))
    found += [crops_words(run, part) for part in splits if later]
    if later and target != "crops":
        found += [lmdb_words(run, "stage2", part) for part in ("train", "val")] + [train_words(run, "stage2")]
    if scored:
        found += [predict_words(run, stage, scored) for stage in ("stage1", "stage2")] + [table_words(run, scored)]
    return found + ([report_words(run, scored)] if target in ("report", "all") else [])
