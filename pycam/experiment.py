"""The paper's experiment with its controls and ablations: several seeds, one table of rows; the command ``experiment``.

A line of experiments/rows.csv is a row of the resulting table: prediction files, held against an earlier row. Where a run is
named first, the line says how it is made: on the stage 1 of another run or by itself, with which values of the variables.
"""
import argparse
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

from data_tools.commands import add
from data_tools.errors import unknown
from torchcaffe.errors import CaffeError
from torchcaffe.netparam import read_net, read_solver

from . import edits, summary
from .errors import CamError
from .pipeline import Runner, fast_precision, given, mark, show
from .pipeline_commands import PREFIXES, Run, Words, clean_words, commands, make_run, predict_words, split_words
from .public_weights import SOURCES
from .variables import problem, values

TABLE = Path("experiments/rows.csv")
DEFAULTS = {  # where no variable is given
    "RUN": "build/experiment", "NET": "googlenet_gap", "INIT": "data/weights/bvlc_googlenet.caffemodel",
    "EXCLUDE": "ISIC_0012970,ISIC_0012175,ISIC_0012271",  # training pictures that are validation or test pictures too (D20)
}
WHICH = ("all", "first")  # seeds of a row
OWN_PICTURES = {"HAIR", "EXCLUDE", "ISIC"}  # a run with a value of these cleans pictures of its own
FOLDS = 3
_FILE = re.compile(r"(.+)/results/(stage1|stage2|scratch)_\{split\}(_ten)?\.csv")
_VARIABLE = re.compile(r"(?:^| )([A-Z_0-9]+)=")


class Made(NamedTuple):
    """How a run is made: the run whose stage 1 it uses, or an empty text, and the values that differ from the experiment's."""

    on: str
    variables: Dict[str, str]


class Row(NamedTuple):
    """A line of the table: its name in ROWS, its seeds; folder, network and views of each prediction file."""

    name: str
    seeds: str
    files: List[Tuple[str, str, str]]


def read_table(path: Path) -> Tuple[List[Row], Dict[str, Made]]:
    """Read the rows and the runs that they need, by their folders' names with ``{run}``.

    Raises
    ------
    CamError
        Names the line of a variable, value, file or run that is not known.
    """
    rows: List[Row] = []
    runs: Dict[str, Made] = {}
    for number, line in enumerate(summary.read_rows(path), 2):
        where = f"{path}: line {number}"
        if line["run"]:
            if line["on"] and line["on"] not in runs:
                raise CamError(f"{where}: stands on the run {unknown(line['on'], runs)}")
            runs[line["run"]] = Made(line["on"], read_variables(line["variables"], where))
        files = [_FILE.fullmatch(name) for name in line["predictions"].split(" + ")]
        folders = [found.group(1) if found else "" for found in files]
        wrong = next((name for name in folders if name not in runs), None)
        if wrong is not None or line["seeds"] not in WHICH:
            raise CamError(f"{where}: expected files RUN/results/STAGE_{{split}}.csv of runs that a line defines, and the seeds "
                           f"{' or '.join(WHICH)}; found {line['predictions']}, {line['seeds']}")
        rows.append(Row(line["name"], line["seeds"], [(found.group(1), found.group(2), found.group(3) or "")
                                                      for found in files if found]))
    return rows, runs


def read_variables(text: str, where: str) -> Dict[str, str]:
    """Return the values in a text ``NAME=VALUE NAME=VALUE``, where values may hold blanks."""
    parts = _VARIABLE.split(text)
    found = dict(zip(parts[1::2], parts[2::2]))
    wrong = next(filter(None, (problem(name, value) for name, value in found.items() if "{" not in value)), None)
    if wrong or parts[0]:
        raise CamError(f"{where}: {wrong or f'expected NAME=VALUE, found {text}'}")
    return found


class Experiment:
    """Makes the rows of a table.

    Parameters
    ----------
    given : dict
        Values of variables; `DEFAULTS` hold for the others, and bf16 on a GPU and on a processor that has it.
    """

    def __init__(self, given: Dict[str, str]) -> None:
        self.given = {**DEFAULTS, "PRECISION": "bf16" if given.get("GPU") else fast_precision(given), **given}
        self.values = values(self.given)
        self.root, self.folds = Path(self.values["RUN"]), self.values["FOLDS"] == "yes"
        self.seeds = self.values["SEEDS"].split()
        self.rows, self.runs = read_table(TABLE)
        known = dict.fromkeys(row.name for row in self.rows)
        self.names = self.values["ROWS"].split() or [name for name in known if not self._misfit(name)]

    @property
    def run_name(self) -> str:
        """Return what stands for ``{run}``, with ``{seed}`` in it."""
        usual = self.values["NET"] == DEFAULTS["NET"]
        return "fold{seed}" if self.folds else "seed{seed}" if usual else f"{self.values['NET']}{{seed}}"

    def check(self) -> None:
        """Refuse rows that are not in the table or not for folds, and weights that are not there."""
        known = list(dict.fromkeys(row.name for row in self.rows))
        for name in self.names:
            if name not in known:
                raise CamError(f"ROWS: {unknown(name, known)}")
        misfit = next(filter(None, map(self._misfit, self.names)), "")
        if misfit:
            raise CamError(f"ROWS: not for {self.values['NET']}: {misfit}")
        own = {row.name for row in self.rows for folder, *_ in row.files
               if self.folds and OWN_PICTURES & set(self.runs[folder].variables)}
        if own & set(self.names):
            raise CamError(f"ROWS: {', '.join(sorted(own & set(self.names)))} are for FOLDS=no; leave them out")
        if not Path(self.values["INIT"]).is_file():
            init = self.values["INIT"]
            what = f"INIT={init} fetches them" if Path(init).name in SOURCES else "fetches public ones"
            raise CamError(f"{init}: no pretrained weights there; make weights {what}, pycam weights import makes them of arrays")

    def work(self) -> Iterator[Tuple[Run, List[Words]]]:
        """Yield the commands of every row and seed, with the run that they are of, in an order in which they can be run."""
        yield self._pictures()
        for row in self.rows:
            for seed in self.seeds[:1] if row.seeds == "first" else self.seeds:
                for folder, network, views in row.files if row.name in self.names else ():
                    yield self._prediction(folder, network, views, seed)

    def make_run(self, folder: str, seed: str) -> Run:
        """Return a run of the table for a seed."""
        variables: Dict[str, str] = {}
        first, chain = folder, folder
        while chain:
            first, variables, chain = chain, {**self.runs[chain].variables, **variables}, self.runs[chain].on
        own = OWN_PICTURES & set(variables)
        pictures = self.root / self._name(first, seed) if own else self._common(seed)
        known = {"init": self.values["INIT"], "solvers": self.values["SOLVERS"] or PREFIXES[self.values["NET"]]}
        for name, value in known.items():
            variables = {key: text.replace(f"{{{name}}}", value) for key, text in variables.items()}
        given = {**self.given, **variables, "SEED": seed, "RUN": str(self.root / self._name(folder, seed))}
        return make_run(given, pictures / "clean", self.root / self._name(first, seed))

    def _misfit(self, name: str) -> str:
        """Report fields of EDIT that a row's network lacks; such a row is left out, unless ROWS names it."""
        for folder in dict.fromkeys(folder for row in self.rows for folder, *_ in row.files if row.name == name):
            run = self.make_run(folder, self.seeds[0])
            words = split_words(run, "EDIT") if "EDIT" in self.runs[folder].variables else []
            try:
                edits.edit_net(read_net(read_solver(run.solver("stage1")).net), words) if words else None
            except (CamError, CaffeError, OSError) as error:
                return str(error)
        return ""

    def _name(self, folder: str, seed: str) -> str:
        return folder.replace("{run}", self.run_name).replace("{seed}", seed)

    def _prediction(self, folder: str, network: str, views: str, seed: str) -> Tuple[Run, List[Words]]:
        """Return the commands that make a prediction file: those of its training, then the prediction."""
        run, split = self.make_run(folder, seed), self.values["SPLIT"]
        own = run.pictures.parent != self._common(seed)
        needed = [words for words in commands(run, network, split) if own or words[1] != "clean"]
        options = ["--views", "ten"] if views else []
        training = "stage1_scratch" if network == "scratch" else network
        return run, [*needed, predict_words(run, training, split, f"{network}_{split}{views}", *options)]

    def _common(self, seed: str) -> Path:
        """Return the folder whose hair-free pictures most runs of a seed use."""
        return self.root / (f"fold{seed}" if self.folds else "")

    def _pictures(self) -> Tuple[Run, List[Words]]:
        """Return the commands that make the common pictures: of the data set, or of each fold of the training pictures."""
        run = make_run(self.given)
        splits = dict.fromkeys(("train", "val", *([] if self.folds else [self.values["SPLIT"]])))
        needed = [clean_words(run, split) for split in splits]
        if self.folds:
            source, folds = run.pictures / "train", self.root / "folds"
            needed.append(["data_tools", "folds", "--images", str(source), "--out", str(folds), "--folds", str(FOLDS)])
            needed += [["data_tools", "clean", "--hair", "none", "--images", str(source), "--truth",
                        str(folds / f"{seed}_{split}.csv"), "--out", str(self._common(seed) / "clean" / split)]
                       for seed in self.seeds for split in ("train", "val")]
        return run, needed

    def summarize(self) -> None:
        """Write the table of what is there, RUN/table1 (of folds: RUN/folds)."""
        split = self.values["SPLIT"]
        name = "folds" if self.folds else f"table1{'' if split == 'val' else f'_{split}'}"
        truth = self.root / ("fold{seed}" if self.folds else "") / "clean" / split / "groundtruth.csv"
        summary.write(TABLE, self.root, truth, list(map(int, self.seeds)), self.run_name, split, self.root / name)


def add_parser(subparsers: Any) -> None:
    """Add the command ``experiment``."""
    parser = add(
        subparsers, "experiment", "make the rows of an experiment",
        "python -m pycam experiment ROWS='stages whole' SEEDS=1 ISIC=data/isic2017 --show",
        f"Make the rows of {TABLE}: several seeds, controls, ablations, and their table. What is up to date does nothing. "
        "Variables are those of make.")
    parser.add_argument("variables", nargs="*", metavar="NAME=VALUE", help="values of variables")
    parser.add_argument("--show", action="store_true", help="print the commands and run none")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Run the command ``experiment``."""
    experiment = Experiment(given(args.variables))
    experiment.check()
    done: List[Words] = []
    for made, needed in experiment.work():
        fresh = [words for words in needed if words not in done]
        done += fresh
        if args.show:
            show(fresh)
            continue
        mark(made.folder)
        runner = Runner(made)
        for words in fresh:
            runner(words)
    if not args.show:
        experiment.summarize()
