"""The image `cpu`, replayed without Docker: its files, its environment, its packages from the tree of `make caffe`."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.unit.test_docker import travels

ROOT = Path(__file__).resolve().parents[2]
CPU = (ROOT / "docker" / "cpu.Dockerfile").read_text()


def ignore(folder, names):
    inside = Path(folder).relative_to(ROOT)
    return [name for name in names if not travels(inside / name)]


@pytest.fixture
def image(tmp_path, real_caffe):
    """Return a function that runs a shell line in a copy of what the image holds, with the image's environment alone."""
    shutil.copytree(ROOT, tmp_path / "project", ignore=ignore)
    variables = dict(re.findall(r"(\w+)=(\S+)", re.search(r"^ENV (.*)$", CPU, re.MULTILINE).group(1)))
    variables.update({"PATH": f"{Path(real_caffe).parent}:/usr/bin:/bin", "HOME": str(tmp_path), "MPLCONFIGDIR": str(tmp_path),
                      "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

    def run(line):
        done = subprocess.run(["bash", "-o", "pipefail", "-c", line], cwd=str(tmp_path / "project"), env=variables,
                              capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout
    run.folder = tmp_path / "project"
    return run


@pytest.mark.caffe
def test_the_check_of_the_installed_packages_passes(image):
    for line in re.findall(r"&& ((?:caffe|python3 -c) .*?)(?: \\)?$", CPU, re.MULTILINE):
        image(line)
    listed = set((ROOT / "docker" / "packages-cpu.txt").read_text().split())
    assert {"python3-caffe", "caffe", "python3-opencv", "python3-lmdb"} <= listed


@pytest.mark.slow
@pytest.mark.caffe
def test_stage_1_is_trained_in_what_the_image_holds(image, bench):
    held = {path.name for path in image.folder.iterdir()}
    assert {"Makefile", "pycam", "prototxt", "solvers", "tools"} <= held
    assert not held & {".git", ".venv", ".caffe", "build", "data"}
    assert "make demo" in image("make help")
    shutil.copytree(bench.folder, image.folder / "solvers" / "tiny", ignore=lambda folder, names: [
        name for name in names if not name.endswith(".prototxt")])
    out = image(f"make stage1 ISIC={bench.isic} RUN=out NET=vgg_gap_narrow SOLVERS=tiny/ AUGMENT=none JOBS=1")
    assert "out/stage1/final.caffemodel: stage1 after 6 iterations" in out
    assert (image.folder / "out" / "stage1" / "final.caffemodel").stat().st_size > 10 ** 6
    assert not list(image.folder.glob(".venv"))
