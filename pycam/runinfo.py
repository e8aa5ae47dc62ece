"""What a run was made with: solver values, records, crops, weights, versions; and the decisions that the paper left open."""
import platform
import re
import shutil
import subprocess
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from data_tools import __version__, manifest
from data_tools.files import sha256_file
from data_tools.isic import data_set
from data_tools.steps import Record, find_record

from .crops import BOXES, describe, read_boxes
from .errors import CamError

DECISIONS = Path(__file__).resolve().parents[1] / "docs" / "decisions.md"
PACKAGES = ("numpy", "opencv-python-headless", "scikit-learn", "scikit-image", "matplotlib", "lmdb", "protobuf", "torch")
STAGES = ("stage1", "stage2")
TOLD = ("records", "pictures", "pictures_per_class", "shape", "seed", "parameters")  # of a manifest
_UNTOLD = ("train_state", "test nets", "pictures", "rounding", "resumed")  # of a training's record, or told elsewhere
_LAYERS = "layer"  # prefix of the layers' names in a training's record
_PARTS = re.compile(r"^- (Paper|Readings|Choice|Switch|Effect): (.*?)(?=^- |\Z)", re.DOTALL | re.MULTILINE)

Rows = List[Sequence[str]]


def parameters(folder: Path) -> Rows:
    """Return what the run's own files say of how it was made: rows of step, parameters.

    Raises
    ------
    CamError
        When the folder has none of these files.
    """
    rows: Rows = []
    for stage in STAGES:
        trained = find_record(folder / stage)
        if trained:
            rows.append((f"{stage}, solver", _solver(trained.parameters)))
        weights = folder / stage / "final.caffemodel"
        if weights.is_file():
            rows.append((f"{stage}, weights", f"sha256 {sha256_file(weights)}"))
    for path in sorted(folder.glob("lmdb/*/manifest.json")):
        made = asdict(manifest.load(path.parent))
        rows.append((f"records, {path.parent.name}", _flat({key: made[key] for key in TOLD})))
    for place, record in records(folder).items():
        if place.startswith("crops"):
            told = {key: value for key, value in record.parameters.items() if key != "code"}
            rows.append((place.replace("/", ", "), _flat(told)))
    if not rows:
        raise CamError(f"{folder}: no solver, manifest or crops.json; expected the folder of a run")
    return rows


def records(folder: Path) -> Dict[str, Record]:
    """Return the records of a run's steps by the folders that the steps made."""
    places = [place for pattern in ("clean/*", "lmdb/*", "crops/*", "stage*") for place in sorted(folder.glob(pattern))]
    found = {str(place.relative_to(folder)): find_record(place) for place in places}
    return {name: record for name, record in found.items() if record}


def head(folder: Path, split: str) -> List[Tuple[str, str]]:
    """Return what the reader of a report must know first: rows of name, value."""
    known, nothing = records(folder), Record({}, {})
    first, last, cut = (known.get(name, nothing) for name in (*STAGES, f"crops/{split}"))
    rounding = first.parameters.get("rounding")
    seconds = sum(record.facts.get("seconds", 0) for record in known.values())
    told = {"data": _data(folder, split), "network": first.facts.get("net"), "starting weights": first.facts.get("weights"),
            "engine": ", ".join(dict.fromkeys(filter(None, (first.facts.get("engine"), last.facts.get("engine"))))),
            "device": first.facts.get("device"), "precision": rounding.get("precision") if isinstance(rounding, dict) else None,
            "hair removal": cut.pictures.get("hair"), "region rule": _flat(cut.pictures.get("region")),
            "crops": _crops(folder / "crops" / split / BOXES),
            "made": f"{last.facts.get('date', '?')}, {_duration(seconds)} of work" if "stage1" in known else None,
            "code": commit()}
    return [(name, str(value)) for name, value in told.items() if value]


def _data(folder: Path, split: str) -> str:
    record = find_record(folder / "clean" / split)
    return f"{data_set(record.inputs)}, {split}, {len(record.inputs)} pictures" if record else split


def _crops(boxes: Path) -> str:
    rows = list(read_boxes(boxes).values()) if boxes.is_file() else []
    return f"{len(rows)}, {describe(rows)}" if rows else ""


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"


def commit() -> str:
    """Return the version of the project, with its commit where this is a checkout, and whether that was changed."""
    told = subprocess.run(["git", "-C", str(DECISIONS.parents[1]), "describe", "--always", "--dirty"], check=False,
                          capture_output=True, text=True) if shutil.which("git") else None
    return f"skin-lesion-cam {__version__}" + (f", commit {told.stdout.strip()}" if told and told.returncode == 0 else "")


def _solver(trained: Dict[str, Any]) -> str:
    """Return a training's solver from its record; the file may have changed since."""
    return _flat({name: float(f"{value:.6g}") if isinstance(value, float) else value for name, value in trained.items()
                  if not name.startswith(_LAYERS) and name not in _UNTOLD})


def _flat(values: Any) -> str:
    """Return values as one line: ``name value, name value``; what is None or empty is left out."""
    if isinstance(values, dict):
        told = [(key, value) for key, value in values.items() if value not in (None, "", [], {})]
        return ", ".join(f"{key} ({_flat(value)})" if isinstance(value, dict) else f"{key} {_flat(value)}" for key, value in told)
    if isinstance(values, list):
        return " ".join(map(_flat, values))
    return str(values)


def versions() -> Rows:
    """Return the versions of what wrote the report: rows of name, version."""
    rows: Rows = [("Python", platform.python_version()), ("system", platform.platform(terse=True))]
    for name in PACKAGES:
        try:
            rows.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return rows


def decisions(path: Path = DECISIONS) -> List[Tuple[str, str, str]]:
    """Return each decision of docs/decisions.md: its number and question, the choice, the switch.

    Raises
    ------
    CamError
        When the file is not there: the package was installed without its documents.
    """
    if not path.is_file():
        raise CamError(f"{path}: no such file; the decisions are part of the project's source tree")
    found = []
    for block in re.split(r"^## ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        title, _, body = block.partition("\n")
        parts = {name: " ".join(text.replace("`", "").split()) for name, text in _PARTS.findall(body)}
        found.append((title.strip(), parts.get("Choice", ""), parts.get("Switch", "")))
    return found
