"""What a run was made with: solver values, records, crops, weights, versions; and the decisions that the paper left open."""
import json
import platform
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from data_tools import __version__
from data_tools.files import sha256_file
from data_tools.isic import data_set
from data_tools.steps import find_record
from torchcaffe.netparam import read_solver

from .crops import BOXES, describe, read_boxes
from .errors import CamError

DECISIONS = Path(__file__).resolve().parents[1] / "docs" / "decisions.md"
PACKAGES = ("numpy", "opencv-python-headless", "scikit-learn", "scikit-image", "matplotlib", "lmdb", "protobuf", "torch")
STAGES = ("stage1", "stage2")
_UNTOLD = ("net", "train_state", "test_state", "snapshot_prefix", "solver_mode", "device_id")  # paths, the stage, the device
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
        path = folder / stage / "solver.prototxt"
        if path.is_file():
            rows.append((f"{stage}, solver", _solver(path)))
        weights = folder / stage / "final.caffemodel"
        if weights.is_file():
            rows.append((f"{stage}, weights", f"sha256 {sha256_file(weights)}"))
    for path in sorted(folder.glob("lmdb/*/manifest.json")):
        content = _json(path)
        rows.append((f"records, {path.parent.name}", _flat({key: content.get(key) for key in (
            "records", "pictures", "pictures_per_class", "shape", "seed", "parameters")})))
    for place, record in records(folder).items():
        if place.startswith("crops"):
            told = {key: value for key, value in record["parameters"].items() if key != "code"}
            rows.append((place.replace("/", ", "), _flat(told)))
    if not rows:
        raise CamError(f"{folder}: no solver, manifest or crops.json; expected the folder of a run")
    return rows


def records(folder: Path) -> Dict[str, Any]:
    """Return what the records of a run's steps say, but for the hashes of files, by the folders that the steps made."""
    places = [place for pattern in ("clean/*", "lmdb/*", "crops/*", "stage*") for place in sorted(folder.glob(pattern))]
    found = {str(place.relative_to(folder)): find_record(place) for place in places}
    return {name: {"parameters": record.parameters, "facts": record.facts} for name, record in found.items() if record}


def head(folder: Path, split: str) -> List[Tuple[str, str]]:
    """Return what the reader of a report must know first: rows of name, value."""
    known, made = records(folder), find_record(folder / "stage1")
    first, last = (known.get(name, {}) for name in ("stage1", "stage2"))
    facts, pictures = first.get("facts", {}), known.get(f"crops/{split}", {}).get("parameters", {}).get("pictures", {})
    seconds = sum(record["facts"].get("seconds", 0) for record in known.values())
    told = {"data": _data(folder, split), "network": facts.get("net"), "starting weights": facts.get("weights"),
            "engine": ", ".join(dict.fromkeys(filter(None, (facts.get("engine"), last.get("facts", {}).get("engine"))))),
            "device": facts.get("device"), "precision": first.get("parameters", {}).get("rounding", {}).get("precision"),
            "hair removal": pictures.get("hair"), "region rule": _flat(pictures.get("region")),
            "crops": _crops(folder / "crops" / split / BOXES),
            "made": f"{last.get('facts', {}).get('date', '?')}, {_duration(seconds)} of work" if made else None,
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


def _solver(path: Path) -> str:
    fields = [(field.name, value) for field, value in read_solver(str(path)).ListFields() if field.name not in _UNTOLD]
    return _flat({name: list(value) if not isinstance(value, (str, int, float)) else
                  float(f"{value:.6g}") if isinstance(value, float) else value for name, value in fields})


def _json(path: Path) -> Dict[str, Any]:
    try:
        content: Dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CamError(f"{path}: damaged ({error}); make it again") from error
    return content


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
