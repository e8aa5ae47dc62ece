"""`pycam init`, and what a wheel holds."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import pycam
from pycam.__main__ import main
from torchcaffe.netparam import read_solver

from .test_trained import EXAMPLES, make_models

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("torchcaffe", "data_tools", "pycam")
NETS = sorted((ROOT / "prototxt").glob("*.prototxt")) + sorted((ROOT / "solvers").glob("*.prototxt"))


def test_networks_and_solvers_are_written_and_fit_together(tmp_path, monkeypatch, capsys):
    assert main(["init", str(tmp_path / "new")]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/new: {len(NETS)} networks and solvers\n"
    for path in NETS:
        assert (tmp_path / "new" / path.relative_to(ROOT)).read_bytes() == path.read_bytes()
    monkeypatch.chdir(tmp_path / "new")
    assert all(Path(read_solver(str(path)).net).is_file() for path in Path("solvers").iterdir())


def test_a_changed_file_is_left_alone(tmp_path, capsys):
    main(["init", str(tmp_path)])
    changed = tmp_path / "solvers" / "stage1.prototxt"
    changed.write_text("mine")
    (tmp_path / "solvers" / "stage2.prototxt").unlink()
    assert main(["init", str(tmp_path)]) == 1
    assert f"{changed}: is there and differs" in capsys.readouterr().err
    assert not (tmp_path / "solvers" / "stage2.prototxt").exists()
    changed.unlink()
    assert main(["init", str(tmp_path)]) == 0


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"skin-lesion-cam {pycam.__version__}\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel of a copy and return the file."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in (*PACKAGES, "prototxt", "solvers"):
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    make_models(folder / "source" / "models")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
                    "--wheel-dir", str(folder), str(folder / "source")], check=True)
    return next(folder.glob("*.whl"))


def test_a_wheel_holds_every_module_network_and_type_marker(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
        archive.extractall(tmp_path)
    wanted = {str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    wanted |= {f"pycam/{path.relative_to(ROOT)}" for path in NETS} | {f"{package}/py.typed" for package in PACKAGES}
    wanted |= {f"pycam/models/{name}" for name in ("stage1.caffemodel", "stage2.caffemodel", "origin.json", "metrics.json")}
    assert wanted <= held
    assert {name.split("/")[0] for name in held if ".dist-info" not in name} == set(PACKAGES)
    points = next(path for path in tmp_path.rglob("entry_points.txt")).read_text()
    assert {line.split(" =")[0] for line in points.splitlines() if "=" in line} == {"torchcaffe", "data-tools", "pycam"}
    installed(tmp_path, "init", str(tmp_path / "new"))
    assert len(list((tmp_path / "new").rglob("*.prototxt"))) == len(NETS)
    answer = installed(tmp_path, "classify", str(EXAMPLES / "ISIC_0000225.jpg"))
    assert answer.startswith("for research, no diagnosis; validation AUC 0.")


def installed(folder, *words):
    """Return what a command of a package in a folder prints."""
    program = f"""import sys; sys.path.insert(0, {str(folder)!r})
from pycam.__main__ import main
sys.exit(main({list(words)!r}))"""
    tried = subprocess.run([sys.executable, "-I", "-c", program], cwd=folder, check=False, capture_output=True, text=True)
    assert tried.returncode == 0, tried.stderr
    return tried.stdout
