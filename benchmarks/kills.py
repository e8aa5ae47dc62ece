"""Kill clean, lmdb and crops with SIGKILL at random moments, start each again plainly, and hold the files against a quiet run.

After each kill what readers go by is read: it must be refused, or be whole, of this run or of the earlier one that half of the
trials start from. Every trial's process is forked from this one, so that kills fall on the work and not on the imports; three
in ten work with two processes. With --together, two runs of different parameters work in one folder at once, either is killed or
not, and the same is asked of what they leave; here localize, predict, train and report take part too. Prints the counts, and with
--json stores them.

example: python benchmarks/kills.py --kills 200 --json docs/results/kills.json
         python benchmarks/kills.py --together 210 --seed 2 --json docs/results/kills_together.json
"""
import argparse
import contextlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple

import numpy as np
from tqdm import tqdm

from data_tools import __main__ as data_tools
from data_tools import manifest
from data_tools.errors import DataError
from data_tools.files import sha256_pieces
from data_tools.isic import load_samples
from data_tools.steps import RECORDS, beside, load_record
from pycam import __main__ as pycam
from pycam import predictions
from pycam.engine import FINAL_WEIGHTS, weights_file
from pycam.errors import CamError
from pycam.studies.localization import RECORD, TABLES

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "prototxt" / "vgg_gap_narrow_deploy.prototxt"
READ = ("*.jpg", "*.png", "groundtruth.csv", "boxes.csv", "data.mdb", "manifest.json", "pictures.csv",
        "localization.*", "probs.csv", FINAL_WEIGHTS, "page.html")  # by a next step
OURS = (*RECORDS, "maps_centre.json", RECORD, beside(Path("probs.csv")).name, beside(Path("page.html")).name, "train.log")
NET = """layer { name: "data" type: "Data" top: "data" top: "label" data_param { source: "%s" backend: LMDB batch_size: 4 }
  transform_param { mean_value: 103.939 mean_value: 116.779 mean_value: 123.68 } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
SOLVER = """net: "%s" train_state { stage: "stage1" } max_iter: 300 base_lr: 1e-7 lr_policy: "fixed" momentum: 0.9
display: 10 snapshot: 50 snapshot_prefix: "build/stage1/net" random_seed: 1 solver_mode: CPU
"""
SPAWN = 0.6    # seconds that starting two processes takes
PATIENCE = 60  # seconds until a killed process's own processes must have ended
Main = Callable[[List[str]], int]


class Command(NamedTuple):
    """A command: its program, its words, those that its earlier run had besides, and the reader of what it makes."""

    main: Main
    words: List[str]
    earlier: List[str]
    read: Callable[[Path], object]


def make_commands(folder: Path) -> Dict[str, Command]:
    """Make up pictures and weights in a folder; the commands write to its ``work/out``."""
    source, out = folder / "isic", folder / "work" / "out"
    weights, others = (folder / f"{name}.caffemodel" for name in ("weights", "others"))
    data_tools.main(["synthetic", "--out", str(source), "--train", "6", "--val", "0", "--height", "120", "--width", "160"])
    for seed, path in enumerate((weights, others)):
        run(make_weights, [str(path), str(seed)], folder / "log")
    here = ["--images", str(source / "train"), "--out", str(out)]
    net_words = ["--net", str(DEPLOY), "--weights", str(weights), "--engine", "torch", "--batch", "1"]
    small = ["--size", "64", "--patch-size", "56"]
    make_run(folder / "report_begin" / "out", source / "train", net_words)
    return {
        "clean": Command(data_tools.main, ["clean", *here, "--jobs", "1"], ["--format", "png"], load_samples),
        "lmdb": Command(data_tools.main, ["lmdb", *here, *small, "--jobs", "1"], ["--seed", "9"], manifest.read),
        "crops": Command(pycam.main, ["crops", *here, *net_words], ["--threshold", "0.5"], load_samples),
        "localize": Command(pycam.main, ["localize", *here, *net_words, "--masks", str(source / "masks")],
                            ["--weights", str(others)], read_tables),
        "predict": Command(pycam.main, ["predict", *here[:3], str(out / "probs.csv"), *net_words], ["--views", "ten"],
                           lambda folder: predictions.read(folder / "probs.csv")),
        "train": make_training(folder, ["--images", str(source / "train"), *small, "--jobs", "1"]),
        "report": Command(pycam.main, ["report", "--run", str(out), "--split", "train", "--out", str(out / "page.html")],
                          net_words[:-2], read_report)}


def make_training(folder: Path, words_of_lmdb: List[str]) -> Command:
    """Make the records of a small training; return its command. The earlier one went at another rate."""
    run(data_tools.main, ["lmdb", "--out", str(folder / "records"), *words_of_lmdb], folder / "log")
    solver, net = folder / "solver.prototxt", folder / "net.prototxt"
    net.write_text(NET % (folder / "records"))
    solver.write_text(SOLVER % net)
    words = ["--solver", str(solver), "--stage", "stage1", "--run", str(folder / "work"), "--into", "out", "--engine", "torch"]
    return Command(pycam.main, ["train", *words], ["--edit", "solver.base_lr=2e-7"], weights_file)


def make_run(folder: Path, pictures: Path, words: List[str]) -> None:
    """Make what a report is made of."""
    shutil.copytree(pictures, folder / "clean" / "train")
    for step, out in (("crops", "crops/train"), ("predict", "results/stage1_train.csv"), ("predict", "results/stage2_train.csv")):
        run(pycam.main, [step, "--images", str(pictures), "--out", str(folder / out), *words], folder.parents[1] / "log")


def read_report(out: Path) -> None:
    """Refuse a page whose record does not tell it and its figures as they are."""
    record = load_record(out / beside(Path("page.html")))
    if not all((out / name).is_file() and sha256_pieces(out / name) == mark[0] for name, mark in record.outputs.items()):
        raise DataError(f"{out}: not the files of the record")


def read_tables(out: Path) -> None:
    """Refuse a folder without all tables of ``localize``."""
    if not all((out / name).is_file() for name in TABLES):
        raise DataError(f"{out}: no tables")


def make_weights(words: List[str]) -> int:
    """Write random weights; in a process of its own, because torch's threads do not survive a fork."""
    torchcaffe = importlib.import_module("torchcaffe")
    net, values = torchcaffe.Net(str(DEPLOY), torchcaffe.TEST), np.random.RandomState(int(words[1]))
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = values.normal(0, np.sqrt(2 / max(1, blob.data[0].size)), blob.data.shape)
    net.save(words[0])
    return 0


def start(main: Main, words: List[str], log: Path) -> int:
    """Fork a process that runs a command, in a session of its own; return its id."""
    pid = os.fork()
    if not pid:
        os.setsid()
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        tqdm.set_lock(threading.RLock())  # this process's own: the one of all forks stays taken where its holder is killed
        code = 70
        with contextlib.suppress(BaseException):
            code = main(words)
        sys.stderr.flush()
        os._exit(code)
    return pid


def run(main: Main, words: List[str], log: Path) -> float:
    """Run a command to its end, which must be good; return the seconds it took."""
    began = time.monotonic()
    code = os.waitpid(start(main, words, log), 0)[1]
    if code:
        sys.exit(f"error: {' '.join(words)}: ended with {code}: {log.read_text()}")
    return time.monotonic() - began


def killed(main: Main, words: List[str], log: Path, delay: float) -> bool:
    """Run a command and kill it after a delay in seconds; say whether it was still at work, and wait for its processes."""
    pid = start(main, words, log)
    time.sleep(delay)
    os.kill(pid, signal.SIGKILL)
    was_alive = os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    deadline = time.monotonic() + PATIENCE
    while alive(pid):
        if time.monotonic() > deadline:
            sys.exit(f"error: processes of the killed {' '.join(words)} live on")
        time.sleep(0.01)
    return was_alive


def alive(session: int) -> bool:
    """Say whether a process of a session is there, zombies left out (Linux's /proc)."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, its_session = path.read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == session and state not in "ZX":
                return True
    return False


def snapshot(folder: Path, patterns: tuple = ("*",)) -> Dict[str, bytes]:
    """Return the bytes of a folder's files, at any depth, by name.

    Left out are records and logs, which tell times, the files of locks, which a kill may leave, and what a training set aside.
    """
    return {str(path.relative_to(folder)): path.read_bytes() for pattern in patterns for path in folder.rglob(pattern)
            if path.is_file() and path.name not in OURS and not path.name.endswith(".lock") and "/old-" not in str(path)}


def what_readers_see(command: Command, out: Path, whole: List[Dict[str, bytes]]) -> str:
    """Read what a killed run left; end the program when a reader accepts something that no finished run wrote."""
    try:
        command.read(out)
    except (DataError, CamError):
        return "refused"
    if snapshot(out, READ) not in whole:
        sys.exit(f"error: a reader accepts the half-written {out}")
    return "whole"


def trial(name: str, command: Command, folder: Path, chance: random.Random, counts: Counter) -> bool:
    """Kill one run and start it again; say whether it was still at work when it was killed.

    The program ends when the files differ from those of a quiet run.
    """
    work, log = folder / "work", folder / "log"
    two = command.main is data_tools.main and chance.random() < 0.3
    words = [*command.words, *(["--jobs", "2"] if two else [])]
    before = chance.choice(["nothing", "earlier"])
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(folder / f"{name}_{before}", work)
    whole = [snapshot(folder / f"{name}_{which}" / "out", READ) for which in ("earlier", "quiet")]
    seconds = json.loads((folder / f"{name}_seconds").read_text()) + SPAWN * two
    if not killed(command.main, words, log, chance.uniform(0, seconds)):
        return False
    counts[name, "kills"] += 1
    counts[name, what_readers_see(command, work / "out", whole)] += 1
    counts[name, "began from an earlier run"] += before == "earlier"
    counts[name, "with two processes"] += two
    counts[name, "left temporary files"] += any(".partial" in path or ".old" in path for path in snapshot(work))
    run(command.main, words, log)
    check_same(name, snapshot(work), snapshot(folder / f"{name}_quiet"))
    return True


def together(name: str, command: Command, folder: Path, chance: random.Random, counts: Counter) -> bool:
    """Start two runs of different parameters in one folder, kill either or not, and hold what they leave against quiet runs'."""
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(folder / f"{name}_{chance.choice(['nothing', 'earlier'])}", work)
    whole = [snapshot(folder / f"{name}_{which}" / "out", READ) for which in ("earlier", "quiet")]
    seconds = 2 * json.loads((folder / f"{name}_seconds").read_text())
    began, moments, codes = time.monotonic(), {}, {}
    for number, words in enumerate(chance.sample([command.words, [*command.words, *command.earlier]], 2)):
        pid = start(command.main, words, folder / f"log{number}")
        moments[pid] = began + (chance.uniform(0, seconds) if chance.random() < 0.6 else PATIENCE)
        time.sleep(chance.uniform(0, seconds / 4))
    while moments:
        for pid in [pid for pid, moment in moments.items() if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                    or moment < time.monotonic()]:
            os.kill(pid, signal.SIGKILL)
            codes[pid] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            del moments[pid]
        time.sleep(0.01)
    for number, code in enumerate(codes[pid] for pid in sorted(codes)):
        lines = [line for line in (folder / f"log{number}").read_text().splitlines() if line.startswith("error: ")]
        if code not in (0, 1, -signal.SIGKILL) or (code == 1 and len(lines) != 1):
            sys.exit(f"error: {name} ended with {code}: {(folder / f'log{number}').read_text()}")
        counts[name, {0: "ended well", 1: "refused in a line"}.get(code, "kills")] += 1
    counts[name, "rounds"] += 1
    counts[name, f"left {what_readers_see(command, work / 'out', whole)}"] += 1
    run(command.main, command.words, folder / "log")
    check_same(name, snapshot(work), snapshot(folder / f"{name}_quiet"))
    return True


def check_same(name: str, found: Dict[str, bytes], expected: Dict[str, bytes]) -> None:
    """End the program when files differ from those of a quiet run."""
    if found != expected:
        different = sorted(path for path in {*found, *expected} if found.get(path) != expected.get(path))
        sys.exit(f"error: after a kill and a restart of {name} these files differ from a quiet run's: {different}")


def prepare(name: str, command: Command, folder: Path) -> None:
    """Store what a trial starts from, what it must end with, and how long a quiet run takes."""
    work, begin = folder / "work", folder / f"{name}_begin"
    begin.mkdir(exist_ok=True)
    for which, words in (("nothing", None), ("earlier", [*command.words, *command.earlier]), ("quiet", command.words)):
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(begin, work)
        seconds = run(command.main, words, folder / "log") if words else 0.0
        shutil.copytree(work, folder / f"{name}_{which}")
    (folder / f"{name}_seconds").write_text(str(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--together", type=int, default=0, metavar="N", help="N rounds of two runs at once instead")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    importlib.import_module("torchcaffe.net")  # once for all forks, and not in the processes that they start; likewise:
    pycam.make_parser()
    chance, counts = random.Random(args.seed), Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        commands = make_commands(folder)
        commands = commands if args.together else {key: commands[key] for key in ("clean", "lmdb", "crops")}
        rounds, attempt = (args.together, together) if args.together else (args.kills, trial)
        for key, command in commands.items():
            prepare(key, command, folder)
        done = 0
        with tqdm(total=rounds, desc="kills", disable=None) as bar:
            while done < rounds:
                key = list(commands)[done % len(commands)]
                if attempt(key, commands[key], folder, chance, counts):
                    done += 1
                    bar.update()
                    store(args, counts)
    print(args.json.read_text() if args.json else dict(counts))


def store(args: argparse.Namespace, counts: Counter) -> None:
    """Write what was counted so far: how often a reader refused what was left, how often it was whole, ..."""
    rows = {name: {what: counts[name, what] for key, what in sorted(counts) if key == name} for name, _ in sorted(counts)}
    total = sum(row.get("kills", 0) for row in rows.values())
    if args.json:
        args.json.write_text(json.dumps({"seed": args.seed, "kills": total, **rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
