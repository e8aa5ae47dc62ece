"""A step does nothing while nothing changed, and its work anew when anything did; content decides, times do not."""

import json
import os
import threading
from pathlib import Path

import pytest

from data_tools import steps
from data_tools.errors import DataError
from data_tools.files import locked, partial_folder


@pytest.fixture
def made(tmp_path):
    """Return a function that runs a step which copies its inputs, and tells whether it worked."""
    for name in "ab":
        (tmp_path / name).write_text(name)

    def run(parameters=(), inputs=None, **more):
        out = tmp_path / "out"

        def work():
            out.mkdir(exist_ok=True)
            (out / "copy").write_bytes(b"".join((tmp_path / name).read_bytes() for name in inputs or "ab"))
            return [out / "copy"]
        step = steps.Step("copy", out, out / "crops.json", dict(parameters), {name: tmp_path / name for name in inputs or "ab"},
                          work, **more)
        return steps.run(step)
    run.folder = tmp_path
    return run


def test_an_unchanged_step_does_nothing_and_says_so(made, capsys):
    assert made({"x": 1.5, "y": (1, 2)})
    files = {path: path.stat().st_mtime_ns for path in made.folder.rglob("*")}
    capsys.readouterr()
    assert not made({"x": 1.5, "y": (1, 2)})
    assert capsys.readouterr().out == "copy: up to date\n"
    assert {path: path.stat().st_mtime_ns for path in made.folder.rglob("*")} == files


@pytest.mark.parametrize("change", ["parameter", "new parameter", "input", "same size and time", "gone", "output", "new input",
                                    "order", "record", "output of the same size and time"])
def test_every_change_is_seen(made, change):
    made({"x": 1})
    folder, parameters, inputs = made.folder, {"x": 1}, "ab"

    def alter(path):
        status = path.stat()
        path.write_text("c" * status.st_size)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    {"parameter": lambda: parameters.update(x=2), "new parameter": lambda: parameters.update(z=None, y=1),
     "input": lambda: (folder / "a").write_text("other"), "same size and time": lambda: alter(folder / "a"),
     "gone": lambda: (folder / "out" / "copy").unlink(), "output": lambda: (folder / "out" / "copy").write_text(""),
     "output of the same size and time": lambda: alter(folder / "out" / "copy"), "new input": lambda: None,
     "order": lambda: None, "record": lambda: (folder / "out" / "crops.json").write_text("[]")}[change]()
    if change == "new input":
        (folder / "c").write_text("c")
        inputs = "abc"
    elif change == "order":
        inputs = "ba"
    assert made(parameters, inputs)
    assert not made(parameters, inputs)
    assert (folder / "out" / "copy").read_text() == "".join((folder / name).read_text() for name in inputs)


@pytest.mark.parametrize("left", ["out/.copy.0123abcd.partial", "out/.crops.json.0123abcd.partial"])
def test_what_a_killed_run_left_half_written_is_deleted(made, left):
    (made.folder / "out").mkdir()
    (made.folder / left).write_text("half")
    made()
    assert not (made.folder / left).exists()


def test_times_decide_nothing(made):
    made()
    for path in (made.folder / "a", made.folder / "out" / "copy"):
        os.utime(path, (1, 1))
        path.write_bytes(path.read_bytes())
    assert not made()
    record = (made.folder / "out" / "crops.json").read_bytes()
    assert not made()
    assert (made.folder / "out" / "crops.json").read_bytes() == record


def test_files_are_not_read_again_while_their_stamps_are_the_same(made, monkeypatch):
    made()
    monkeypatch.setattr(steps, "sha256_pieces", lambda path: pytest.fail(f"read {path}"))
    assert not made()


def test_an_input_of_any_size_is_refused_before_it_is_read(made, monkeypatch):
    os.truncate(made.folder / "a", steps.LARGEST + 1)  # sparse
    monkeypatch.setattr(steps, "sha256_pieces", lambda path: pytest.fail(f"read {path}"))
    with pytest.raises(DataError, match=r"a: cannot be read \(2400000001 bytes, expected 2400000000 at most\)"):
        made()


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100000, '{"parameters": 1, "inputs": {}}',
                                  '{"version": 7, "parameters": {}, "inputs": {}}',
                                  '{"parameters": {}, "inputs": {"a": 3}}', '{"parameters": {}, "inputs": {"a": [1, [1]]}}',
                                  '{"parameters": {}, "inputs": [], "outputs": null, "finished": true}'])
def test_a_damaged_record_is_none(made, text):
    made()
    (made.folder / "out" / "crops.json").write_text(text)
    assert made()
    assert not made()


def test_an_interrupted_step_that_resumes_knows_what_it_was_made_of(made):
    def fail(old):
        raise DataError("stopped")

    def work():
        raise DataError("stopped")
    step = steps.Step("s", made.folder / "out", made.folder / "out" / "crops.json", {"x": 1}, {"a": made.folder / "a"}, work,
                      resumes=True)
    with pytest.raises(DataError):
        steps.run(step)
    old = steps.read_record(step.record)
    assert old is not None
    assert not old.finished
    assert steps.kept(step, old) == ["a"]
    assert steps.kept(step._replace(parameters={"x": 2}), old) == []
    assert steps.kept(step._replace(parameters={"x": 2}), old, "x") == ["a"]
    (made.folder / "a").write_text("other")
    assert steps.kept(step, old) == []
    (made.folder / "out" / "crops.json").unlink()
    with pytest.raises(DataError):
        steps.run(step._replace(prepare=fail))
    assert not step.record.exists()  # what cannot be prepared leaves nothing


def test_a_changed_step_says_what_changed(made, capsys):
    made({"threshold": 1})
    made({"threshold": 2})
    assert capsys.readouterr().err == "note: copy: made anew, threshold changed\n"
    (made.folder / "a").write_text("other")
    made({"threshold": 2})
    assert capsys.readouterr().err == "note: copy: made anew, a file changed\n"


def test_an_input_that_is_not_there_is_named(made):
    (made.folder / "a").unlink()
    with pytest.raises(DataError, match=r"a: cannot be read \(No such file"):
        made()


def test_the_code_of_a_step_is_hashed():
    assert steps.code("data_tools.hair") != steps.code("data_tools.hair", "data_tools.hair_fill")
    assert json.dumps(steps.code("pycam.cam"))


def test_only_one_of_two_works(made):
    with locked(made.folder / "out"), pytest.raises(DataError, match="out: another process is writing there"):
        made()
    assert made()
    assert sorted(path.name for path in made.folder.iterdir()) == ["a", "b", "out"]


def test_a_lock_passes_from_one_to_the_next_and_never_to_two(tmp_path):
    inside, most, taken = [], [], []

    def compete():
        for _ in range(200):
            try:
                with locked(tmp_path / "x"):
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()
                    taken.append(1)
            except DataError:
                continue
    threads = [threading.Thread(target=compete) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}
    assert taken
    assert list(Path(tmp_path).iterdir()) == []


def test_a_folder_that_another_process_has_begun_is_not_deleted(tmp_path):
    """When one ends, another may begin under the same name; what it has begun must stay."""
    wrong = []

    def make():
        for _ in range(100):
            try:
                with partial_folder(tmp_path / "x", "mark") as partial:
                    (partial / "mark").write_text("")
                    if not (partial / "mark").exists():
                        wrong.append("deleted")
            except DataError as error:
                if "another process" not in str(error):
                    wrong.append(str(error))
            except OSError as error:
                wrong.append(str(error))
    threads = [threading.Thread(target=make) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert (tmp_path / "x" / "mark").is_file()


def test_what_changes_while_it_is_read_is_not_called_finished(made):
    folder = made.folder
    step = steps.Step("copy", folder / "out", folder / "record.json", {}, {"a": folder / "a"},
                      lambda: [(folder / "a").write_text("other"), folder / "b"][1:], resumes=True)
    with pytest.raises(DataError, match="copy: a changed while it was read; run the step again"):
        steps.run(step)
    left = steps.read_record(step.record)
    assert (left.finished, left.inputs) == (False, {})
    assert steps.run(step)


def test_a_damaged_record_is_told_and_its_step_done_anew(made, capsys):
    made()
    (made.folder / "out" / "crops.json").write_text('{"parameters": []}')
    assert made()
    assert "note: copy: made anew, " in capsys.readouterr().err
    assert not made()
