"""The images, built and run: a checkout, its make as a user other than root, and the stand-ins for bases that no test can pull.

tools/test-images.sh finds or starts the engine and says so in IMAGES; elsewhere these tests are not collected.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENGINE = os.environ.get("IMAGES", "")  # "found", "own", or why there is none
USER = 1234  # of no image and of few machines
SOLVER = {"max_iter": 4, "test_iter": 1, "test_interval": 2, "snapshot": 2, "display": 1}
HANDED = ("CPU_BASE", "DEBIAN_MIRROR", "DOCKER_HOST")
LIMIT = 1800  # seconds for a command, or it hangs
FIGURES = []  # lines that the summary shows

LITTER = ("pictures/a.jpg", "results/b.png", "solvers/tiny/c.caffemodel", "pycam/__pycache__/d.pyc", "pycam/e.jpg", "data/f.jpg")
LATER = {"gpu", "torch"}  # fixtures of images that are built while other tests run

collect_ignore_glob = [] if ENGINE else ["test_*.py"]


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: bool(LATER & set(item.fixturenames)))
    if ENGINE not in ("", "found", "own"):
        for item in items:
            item.add_marker(pytest.mark.skip(reason=ENGINE))


def pytest_terminal_summary(terminalreporter):
    for line in FIGURES:
        terminalreporter.write_line(f"images: {line}")
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if report.nodeid.startswith("tests/images/")]
    for reason, count in Counter(report.longrepr[2] for report in skipped).items():
        terminalreporter.write_line(f"images: {count} tests not run: {reason.removeprefix('Skipped: ')}")


def builder(target):
    """Return the variable that chooses an image's builder: with an engine of its own `torch` has the one before BuildKit."""
    return {"DOCKER_BUILDKIT": "0" if target == "torch" else "1"} if ENGINE == "own" else {}


class Desk:
    """A checkout with tiny solvers and made-up pictures beside it; `run` and `make` act as a user other than root."""

    def __init__(self, folder):
        self.folder, self.project = folder, folder / "project"
        self.user = USER if os.getuid() == 0 else os.getuid()
        self.variables = {"PATH": os.environ["PATH"], "HOME": str(self.project), "JOBS": "2"}
        self.variables.update({name: os.environ[name] for name in HANDED if name in os.environ})
        if ENGINE == "found":  # nobody's own images are replaced
            self.variables["IMAGE"] = "skin-lesion-cam-test:$(TARGET)"
        self._check_out()

    def _check_out(self):
        clone = ["git", "clone", "--quiet", "--no-hardlinks"]  # or `own` would give away this repository's own objects
        subprocess.run([*clone, str(ROOT), str(self.project)], check=True)
        names = subprocess.run(["git", "ls-files", "-com", "--exclude-standard"], cwd=str(ROOT), check=True, capture_output=True,
                               text=True).stdout.split()
        for name in names:  # as it lies here, committed or not
            if (ROOT / name).is_file():
                (self.project / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.project / name)
        bundle = Path(os.environ.get("PIP_CERT") or "/etc/ssl/certs/ca-certificates.crt")  # pip's in the stand-ins
        (self.folder / "certificates").mkdir()
        (self.folder / "certificates" / "certificates.crt").write_bytes(bundle.read_bytes() if bundle.is_file() else b"")
        self.solver("tiny", **SOLVER)

    def solver(self, name, **fields):
        """Write the narrow network with small batches, and its solvers with other values of some fields, into solvers/NAME."""
        folder = self.project / "solvers" / name
        folder.mkdir()
        net = (self.project / "prototxt" / "vgg_gap_narrow_train_val.prototxt").read_text()
        (folder / "net.prototxt").write_text(net.replace("batch_size: 32", "batch_size: 4"))
        fields["net"] = f'"solvers/{name}/net.prototxt"'
        for stage in ("stage1", "stage2"):
            text = (self.project / "solvers" / f"narrow_{stage}.prototxt").read_text()
            lines = [line for line in text.splitlines() if line.split(":")[0] not in fields]
            lines += [f"{field}: {value}" for field, value in fields.items()]
            (folder / f"{stage}.prototxt").write_text("\n".join(lines) + "\n")
        self.own()

    def own(self):
        """Give everything to the user."""
        if os.getuid() == 0:
            subprocess.run(["chown", "-R", f"{self.user}:{self.user}", str(self.folder)], check=True)

    def _become(self):
        """Return the words that make a command the user's: of root's groups it keeps that of the engine's socket."""
        if os.getuid() != 0:
            return []
        socket = Path(os.environ.get("DOCKER_HOST", "").replace("unix://", "", 1))
        groups = ["--groups", str(socket.stat().st_gid)] if socket.is_socket() else ["--clear-groups"]
        return ["setpriv", "--reuid", str(self.user), "--regid", str(self.user), *groups]

    def start(self, *words, **variables):
        """Start a program as the user, in a session of its own."""
        return subprocess.Popen([*self._become(), *map(str, words)], cwd=str(self.project), env={**self.variables, **variables},
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))

    def run(self, *words, status=0, **variables):
        """Run a program as the user to its end, see its exit status, return what it printed."""
        process = self.start(*words, **variables)
        said = process.communicate(timeout=LIMIT)[0]
        assert process.returncode == status, said[-6000:]
        return said

    def make(self, *words, **more):
        return self.run("make", "--no-print-directory", *words, **more)

    def docker_run(self, command, *words, **more):
        """Run a command in the image `cpu` by `make docker-run`; no warning may come along."""
        said = self.make("docker-run", "TARGET=cpu", f"CMD={command}", *words, **more)
        for warning in ("Matplotlib created", "Warning", "cannot find name"):
            assert warning not in said, said
        return said

    def timed(self, name, *words, **variables):
        """Run make, note its time; return (seconds, what it printed)."""
        started = time.monotonic()
        said = self.make(*words, **variables)
        seconds = time.monotonic() - started
        FIGURES.append(f"{name}: {seconds:.1f} s")
        return seconds, said

    def build(self, target, *words):
        """Build an image for the first time, note its time and size; return what make printed."""
        said = self.timed(f"first build of {target}", "docker", f"TARGET={target}", *words, **builder(target))[1]
        FIGURES.append(f"size of {target}: {int(self.inspect(target, '.Size')) / 1e6:.0f} MB")
        return said

    def stand_in(self, name, base, *options, file="bases"):
        """Build the stand-in for an image's base; return its name."""
        tag = f"skin-lesion-cam-base:{name}"
        self.run("docker", "build", "--quiet", "--file", ROOT / "tests" / "images" / f"{file}.Dockerfile", "--build-arg",
                 f"BASE={base}", *options, "--tag", tag, self.folder / "certificates", **builder("gpu"))
        return tag

    def build_on_stand_in(self, target):
        """Build an image on the stand-in for its base; return (base, what make printed)."""
        base = self.stand_in(target, "debian:12-slim", "--target", target)
        return base, self.build(target, f"{target.upper()}_BASE={base}")

    def image(self, target):
        """Return an image's name."""
        return self.variables.get("IMAGE", "skin-lesion-cam:$(TARGET)").replace("$(TARGET)", target)

    def inspect(self, target, field):
        return self.run("docker", "image", "inspect", "--format", f"{{{{{field}}}}}", self.image(target)).strip()


@pytest.fixture(scope="session")
def desk():
    folder = Path(tempfile.mkdtemp(prefix="images-"))  # pytest's own folders are root's alone
    folder.chmod(0o755)
    desk = Desk(folder)
    yield desk
    shutil.rmtree(folder)
    if ENGINE == "found":
        ours = [f"--filter=reference=skin-lesion-cam-{name}:*" for name in ("test", "base")]
        listing = ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}", *ours]
        found = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split()
        subprocess.run(["docker", "rmi", "--force", *found], capture_output=True, check=False)


@pytest.fixture(scope="session")
def builds(request, desk):
    """Return what is built of the images that the tests need, begun at once, while pictures and results lie about."""
    for name in LITTER:
        (desk.project / name).parent.mkdir(parents=True, exist_ok=True)
        with (desk.project / name).open("wb") as file:
            file.truncate(20_000_000)
    desk.own()
    needed = {name for item in request.session.items for name in item.fixturenames}
    if ENGINE == "own":
        desk.variables["CPU_BASE"] = desk.stand_in("cpu", desk.variables["CPU_BASE"], "--target", "cpu")
    with ThreadPoolExecutor(2) as pool:
        found = {"cpu": pool.submit(desk.build, "cpu")} if "cpu" in needed else {}
        found.update({name: pool.submit(desk.build_on_stand_in, name) for name in ("gpu", "torch") if name in needed})
        yield found


@pytest.fixture(scope="session")
def cpu(desk, builds):
    """Return the desk with the image `cpu`."""
    desk.cpu_built = builds["cpu"].result()
    return desk


@pytest.fixture(scope="session")
def gpu(builds):
    """Return (base, what make printed) of the image `gpu`, built on a stand-in."""
    return builds["gpu"].result()


@pytest.fixture(scope="session")
def torch(builds):
    """Return (base, what make printed) of the image `torch`, built on a stand-in."""
    return builds["torch"].result()
