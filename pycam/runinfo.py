"""What a run was made with: solver values, records, crops, weights, versions; and the decisions that the paper left open."""
import json
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from data_tools.files import sha256_file
from torchcaffe.netparam import read_solver

from .crops import PARAMETERS
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
    for path in sorted(folder.glob(f"crops/*/{PARAMETERS}")):
        told = {key: value for key, value in _json(path).items() if key not in ("net", "weights", "pictures")}
        rows.append((f"crops, {path.parent.name}", _flat(told)))
    if not rows:
        raise CamError(f"{folder}: no solver, manifest or crops.json; expected the folder of a run")
    return rows


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
