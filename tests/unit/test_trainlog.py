import math

import pytest

from pycam import trainlog
from pycam.__main__ import main
from pycam.errors import CamError

HEAD = "I1123 05:10:25.204546 25718 solver.cpp:290] "


def log(*lines):
    return "".join(f"{HEAD}{line}\n" for line in lines)


RUN = log(
    "Iteration 0, Testing net (#0)",
    "    Test net output #0: accuracy = 0.25",
    "    Test net output #1: loss = 1.5 (* 1 = 1.5 loss)",
    "Iteration 0 (-9.36072e+17 iter/s, 0.011s/10 iters), loss = 1.4",
    "    Train net output #0: loss = 9.9 (* 1 = 9.9 loss)",
    "Iteration 0, lr = 0.01",
    "Iteration 10 (-inf iter/s, 0s/10 iters), loss = 1.2e-3",
    "Iteration 10, lr = 1e-05",
    "Snapshotting to binary proto file x_iter_20.caffemodel",
    "Iteration 20, loss = 0.9",
    "Iteration 20, Testing net (#0)",
    "    Test net output #0: accuracy = 1",
)


def test_losses_and_test_outputs_by_iteration():
    found = trainlog.parse(RUN)
    assert found.loss == {0: 1.4, 10: 0.0012, 20: 0.9}
    assert found.test == {"accuracy": {0: 0.25, 20: 1.0}, "loss": {0: 1.5}}


def test_a_resumed_run_replaces_what_it_repeats():
    first = log(*[f"Iteration {i} (5 iter/s, 2s/10 iters), loss = {i}.5" for i in (0, 10, 20, 22, 30)])
    second = log(*[f"Iteration {i} (5 iter/s, 2s/10 iters), loss = {i}.25" for i in (20, 40)])
    assert trainlog.parse(first + second).loss == {0: 0.5, 10: 10.5, 20: 20.25, 40: 40.25}


def test_several_test_nets_are_kept_apart():
    found = trainlog.parse(log("Iteration 5, Testing net (#0)", "    Test net output #0: loss = 1",
                               "Iteration 5, Testing net (#1)", "    Test net output #0: loss = 2"))
    assert found.test == {"loss": {5: 1.0}, "#1 loss": {5: 2.0}}


@pytest.mark.parametrize("text", ["nan", "-nan", "inf", "NaN"])
def test_a_loss_that_is_no_number_is_kept_as_such(text):
    value = trainlog.parse(log(f"Iteration 3 (1 iter/s, 1s/1 iters), loss = {text}")).loss[3]
    assert not math.isfinite(value)


def test_other_lines_that_name_iterations_are_not_read():
    text = "base_lr: 0.1\nmax_iter: 30\nIteration 4, loss = 5\n"
    found = trainlog.parse(text + log("Solving net", "lr_policy: fixed"))
    assert found == ({}, {})


@pytest.mark.parametrize(("content", "words"), [
    (log("Iteration 0, loss = 1", "Iteration 5 (2 iter/s), loss = 0.5."), "line 2: '0.5.' is no number"),
    (log("Iteration 0, loss = 1", "    Test net output #0: accuracy = 0..5"), "line 2: '0..5' is no number"),
    (log("Iteration 0, loss = -1.#IND"), "line 1: '-1.#IND' is no number"),
    (f"{log('Iteration 0, loss = 1')}caf\xe9\n".encode("latin-1"), "line 2 is no text in UTF-8"),
    (log("Iteration 0, loss = 1").encode("utf-16"), "line 1 is no text in UTF-8"),
])
@pytest.mark.parametrize("follow", [[], ["--follow"]])
def test_a_damaged_log_is_one_line_that_says_where(tmp_path, capsys, content, words, follow):
    path = tmp_path / "train.log"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert main(["curves", str(path), *follow]) == 1
    assert capsys.readouterr().err.startswith(f"error: {path}: {words}; expected a log as the training wrote it")


@pytest.mark.parametrize("end", ["Iteration 20, loss = 0.", "Iteration 20, loss = 1e", "Iteration 2", "\xe2\x82"])
def test_a_line_that_is_still_being_written_is_not_read(tmp_path, end):
    path = tmp_path / "train.log"
    path.write_bytes((RUN + HEAD).encode() + end.encode("latin-1"))
    assert trainlog.read(path) == trainlog.parse(RUN)


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe no log", b"no log\n"])
def test_a_file_without_a_run_is_refused(tmp_path, content):
    path = tmp_path / "train.log"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CamError, match="expected the log of a training run"):
        trainlog.read(path)


def test_curves_command_draws_a_figure(tmp_path, capsys):
    pytest.importorskip("matplotlib.figure")
    (tmp_path / "a.log").write_text(RUN)
    (tmp_path / "b.log").write_text(log("Iteration 0, loss = nan", "Iteration 1, loss = 2"))
    out = tmp_path / "figures" / "curves.png"
    assert main(["curves", str(tmp_path / "a.log"), str(tmp_path / "b.log"), "--out", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.strip() == str(out)


def test_curves_follow_a_log_that_does_not_exist_yet_until_its_end(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib.figure")
    path, steps, sizes = tmp_path / "train.log", [], []
    parts = ["", log("Iteration 0, loss = 3"), log("Iteration 1, loss = 2"), log("Optimization Done.")]

    def training_goes_on(seconds):
        figure = tmp_path / "curves.png"
        sizes.append(figure.stat().st_mtime_ns if figure.exists() else None)
        with open(path, "a") as file:
            file.write(parts[len(steps)])
        steps.append(seconds)
    monkeypatch.setattr(trainlog.time, "sleep", training_goes_on)
    assert main(["curves", str(path), "--follow"]) == 0
    assert len(steps) == len(parts)
    assert sizes[:2] == [None, None]  # nothing to draw yet
    assert sizes[2] is not None
    assert sizes[3] > sizes[2]  # drawn again
    said = capsys.readouterr()
    waiting, *progress = said.err.splitlines()
    assert waiting.startswith(f"waiting for the first iteration in {path}; `make stage1` or ")
    assert progress == [f"{path}: iteration 0, loss 3", f"{path}: iteration 1, loss 2"]
    assert said.out.strip() == str(tmp_path / "curves.png")


@pytest.mark.parametrize("later", [["Iteration 1, loss = 2"], ["Initializing solver from parameters:"],
                                   ["Initializing solver from parameters:", *["Iteration 1, loss = 2"] * 40]])
def test_a_resumed_training_is_followed_beyond_its_first_end(tmp_path, monkeypatch, later):
    pytest.importorskip("matplotlib.figure")
    path = tmp_path / "train.log"
    path.write_text(log("Iteration 0, loss = 3", "Optimization Done.") + log(*later))
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        path.write_text(path.read_text() + log("Optimization Done."))
    monkeypatch.setattr(trainlog.time, "sleep", sleep)
    assert main(["curves", str(path), "--follow", "--out", str(tmp_path / "a.pdf")]) == 0
    assert waited == [trainlog.PAUSE]


def test_a_loss_that_is_nan_is_drawn_once(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib.figure")
    path, looks = tmp_path / "train.log", []
    path.write_text(log("Iteration 0, loss = nan"))

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            path.write_text(path.read_text() + log("Optimization Done."))
    monkeypatch.setattr(trainlog.time, "sleep", sleep)
    assert main(["curves", str(path), "--follow"]) == 0
    assert capsys.readouterr().err == f"{path}: iteration 0, loss nan\n"


def test_logs_of_one_name_are_curves_of_their_own(tmp_path, monkeypatch):
    figures = pytest.importorskip("pycam.figures")
    drawn, paths = [], [tmp_path / run / "stage1" / "train.log" for run in "ab"]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_text(log("Iteration 0, loss = 3", "Iteration 1, loss = 2"))
    monkeypatch.setattr(figures, "save", lambda figure, path: drawn.append(figure))
    assert main(["curves", *map(str, paths)]) == 0
    assert [line.get_label() for line in drawn[0].axes[0].lines] == [str(path) for path in paths]


def test_an_unknown_kind_of_figure_is_refused(tmp_path, capsys):
    pytest.importorskip("matplotlib.figure")
    (tmp_path / "train.log").write_text(RUN)
    assert main(["curves", str(tmp_path / "train.log"), "--out", str(tmp_path / "a.gif")]) == 1
    assert "expected .png, .pdf, .svg" in capsys.readouterr().err
