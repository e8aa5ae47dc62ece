"""What is looked at before a training."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from data_tools import manifest
from data_tools.files import write_atomic
from pycam import checks, engine, probe
from pycam.errors import CamError
from torchcaffe.netparam import parse_text
from torchcaffe.proto import caffe_pb2

NET = {"shapes": {"fc": [[100, 10], [100]]}, "parameters": 1100, "values": 5000}


def tried(**found):
    return probe.Probe({"stage1 training": NET, "stage1 testing": NET, **found})


def test_data_is_checked_and_notes_are_told(run):
    first, *notes = checks.check_records(run.job()).splitlines()
    assert first == "stage1_train 6, stage1_val 3 records, whole, BGR, classes within num_output"
    assert [note.split(" is not ")[0].split(" are ")[0] for note in notes] == [
        f"note: records of {run.folder}/lmdb/stage1_train", f"note: records of {run.folder}/lmdb/stage1_val",
        "note: test_iter 15 x batch_size 10"]
    job = run.job(lambda text: text.replace("iter: 15", "iter: 1").replace("batch_size: 10", "batch_size: 3"))
    assert "test_iter" not in checks.check_records(job)
    cut = run.job(lambda text: text.replace("transform_param {", "transform_param { crop_size: 224 "))
    assert "predictions are made" not in checks.check_records(cut)  # they are of the predictor's size once the patch is cut


def test_sources_are_there_or_can_be_made(run):
    assert checks.check_sources(run.job(), waiting=False) == "2 of 2 there"
    shutil.rmtree(run.folder / "lmdb" / "stage1_val")
    with pytest.raises(CamError, match=r"names .*stage1_val, which cannot be read; .*make stage1"):
        checks.check_sources(run.job(), waiting=False)
    assert checks.check_sources(run.job(), waiting=True) == "1 of 2 there, make stage1 makes the others"
    assert checks.check_records(run.job()).startswith("stage1_train 6 records")
    with pytest.raises(CamError, match=r"names .*stage1_vaal, which cannot be read"):
        checks.check_sources(run.job(lambda text: text.replace("stage1_val", "stage1_vaal")), waiting=True)


def test_another_file_that_the_net_names(run):
    layer = """layer { name: "more" type: "ImageData" top: "x" top: "y" include { stage: "stage1" }
                       image_data_param { source: "nowhere.txt" } }"""
    with pytest.raises(CamError, match=r"names nowhere\.txt"):
        checks.check_sources(run.job(lambda text: text + layer if "layer {" in text else text), waiting=True)


def test_too_few_outputs_are_refused(run):
    with pytest.raises(CamError, match="stage1_train: 3 classes, the net has 2 outputs"):
        checks.check_records(run.job(lambda text: text.replace("num_output: 3\n", "num_output: 2\n")))


def test_other_channels_are_refused(run):
    place = run.folder / "lmdb" / "stage1_train" / manifest.NAME
    write_atomic(place, place.read_bytes().replace(b"BGR", b"RGB"))
    with pytest.raises(CamError, match="stage1_train: channels RGB, the predictor's are BGR"):
        checks.check_records(run.job())


@pytest.mark.parametrize(("old", "new", "found"), [
    ("mean_value: 103.939", "mean_value: 123.68", "123.68, 116.779"), ("    mean_value: 103.939\n", "", "116.779"),
    ("mean_value: 103.939\n", "mean_value: 103.939 scale: 0.5\n", "scale 0.5")])
def test_another_mean_than_the_predictors_is_refused(run, old, new, found):
    assert checks.check_mean(run.job()) == "103.939, 116.779, 123.68 (BGR), as the predictor's"
    with pytest.raises(CamError, match=f"layer data of .*stage1_train has mean_value .*{found}.*the predictor subtracts"):
        checks.check_mean(run.job(lambda text: text.replace(old, new)))


def test_a_net_without_fillers_needs_weights(run):
    bare = run.job(lambda text: text.replace('    weight_filler { type: "msra" }\n', ""))
    with pytest.raises(CamError, match=r"conv1_2 and others have no filler.*INIT="):
        checks.check_fillers(bare, None, "")
    assert checks.check_fillers(bare, Path("w"), "") == "13 layers without, they come from weights"
    assert checks.check_fillers(bare, None, "a snapshot") == "13 layers without, they come from weights"
    assert checks.check_fillers(run.job(), None, "") == "every convolution has one"


def test_weights_fill_layers_or_are_refused(run, snapshot):
    snapshot(run.folder, 1)  # its layer fc has one blob of 100
    weights = run.folder / "net_iter_1.caffemodel"
    fits = probe.Probe({"stage1 training": {"shapes": {"fc": [[100]], "other": [[3]]}}})
    assert checks.check_start(run.job(), fits, weights, "").splitlines()[0] == f"{weights}: 1 layers copied, 1 fresh"
    with pytest.raises(CamError, match="other shapes than the network has in fc"):
        checks.check_start(run.job(), tried(), weights, "")
    assert checks.check_start(run.job(), tried(), weights, "the newest snapshot") == "the newest snapshot"


def test_a_folder_is_probed_and_not_made(run, tmp_path):
    assert checks.check_folder(run.job()) == f"{run.folder}/stage1 can be written"
    assert not (run.folder / "stage1").exists()
    (run.folder / "stage1").write_text("a file")
    with pytest.raises(CamError, match=r"stage1: cannot be written .*--run"):
        checks.check_folder(run.job())


def test_memory(run, monkeypatch):
    job = run.job()
    assert checks.memory_needed(job, tried()) == checks.SCRATCH * 4 * (3 * 5000 + 3 * 1100) + checks.ENGINE_BYTES
    assert " GB free in main memory" in checks.check_memory(job, tried(), None)
    huge = tried(**{"stage1 training": {**NET, "values": 10 ** 12}})
    with pytest.raises(CamError, match=r"about 12000.4 GB needed, .* GB free in main memory; .*BATCH="):
        checks.check_memory(job, huge, None)


def test_memory_of_a_gpu_is_asked_from_its_driver(monkeypatch):
    asked = []

    def answer(command, **_):
        asked.append(command[1])
        return SimpleNamespace(stdout="1000, NVIDIA X\n")
    monkeypatch.setattr(checks.subprocess, "run", answer)
    monkeypatch.setitem(os.environ, "CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    assert checks.free_memory(1) == (1000 * 2 ** 20, "on GPU 1 (NVIDIA X)")
    monkeypatch.delitem(os.environ, "CUDA_VISIBLE_DEVICES")
    checks.free_memory(1)
    assert asked == ["--id=GPU-b", "--id=1"]


def test_memory_without_a_driver_is_unbounded(monkeypatch):
    monkeypatch.setattr(checks.subprocess, "run", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError()))
    assert checks.free_memory(0) == (float("inf"), "on GPU 0 (nvidia-smi does not tell)")


@pytest.mark.parametrize(("kind", "pair"), [("SGD", 2), ("Adam", 3)])
def test_disk_holds_what_is_still_to_come(run, snapshot, monkeypatch, kind, pair):
    job = run.job(lambda text: text.replace('"SGD"', f'"{kind}"'))  # 400 iterations, a snapshot each 200
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda path: SimpleNamespace(free=4 * 1100 * (2 * pair + 1)))
    assert checks.check_disk(job, tried()).startswith("2 snapshots of ")
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda path: SimpleNamespace(free=4 * 1100 * (2 * pair + 1) - 1))
    with pytest.raises(CamError, match=r"2 snapshots of .*make room"):
        checks.check_disk(job, tried())
    (run.folder / "stage1").mkdir()
    snapshot(run.folder / "stage1", 200)
    assert checks.check_disk(job, tried()).startswith("1 snapshots of ")


def test_the_time_ahead_is_told(run, snapshot):
    job = run.job()
    for seconds, text in ((36, "about 4.0 h for 400"), (0.3, "about 2 min for 400"), (0.01, "about 4 s for 400")):
        assert checks.check_time(job, tried(**{"stage1 time": seconds})).startswith(f"{text} iterations ({seconds} s each)")
    assert checks.check_time(run.job(batch=8), tried(**{"stage1 time": 0.25})).startswith("about 7 min for 400 iterations (1 s")
    (run.folder / "stage1").mkdir()
    snapshot(run.folder / "stage1", 200)
    assert checks.check_time(job, tried(**{"stage1 time": 1})).startswith("about 3 min for 200 iterations")


def test_a_device_that_computes_something_else_is_refused():
    cpu = engine.Backend("torch")
    assert checks.check_device(tried(device=2e-7), cpu) == "CPU: a convolution agrees with numpy to 2e-07"
    for error in (0.1, float("nan")):
        with pytest.raises(CamError, match="the engine was not built for this device"):
            checks.check_device(tried(device=error), cpu._replace(gpu=0))


def test_nets_are_tried_without_their_records(run):
    training, testing = checks.requests(run.job(batch=8))
    assert (training.name, training.phase, testing.name, testing.phase) == ("stage1 training", "TRAIN", "stage1 testing", "TEST")
    assert 'type: "Data"' not in training.text + testing.text
    data = parse_text(training.text, caffe_pb2.NetParameter(), "text").layer[0]
    assert [list(shape.dim) for shape in data.dummy_data_param.shape] == [[8, 3, 28, 28], [8]]  # as the records are
    assert checks.timing(run.job(batch=8)) == ("stage1 time", training.text, "TIME")
