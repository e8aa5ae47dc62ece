"""torchcaffe against real BVLC Caffe, live: the same program, tests/parity/live.py, runs once on each."""



import numpy as np
import pytest

from tests.parity import cases, live
from torchcaffe.layers import LAYERS

LAYER_BOUND = 1e-5   # of the array's largest value
TRAIN_BOUND = 1e-4   # of a whole run, or SPREAD times what Caffe's own BLAS kernels differ by in it, whichever is more
SPREAD = 3
KERNELS = live.kernels("SKYLAKEX", "NEHALEM", "SANDYBRIDGE")  # beside HASWELL, which Caffe runs with here
NOT_COMPARED = {"Input", "DummyData", "MemoryData", "Python", "Silence"}  # nothing to compute
ENGINES = ("caffe", "torchcaffe")

pytestmark = pytest.mark.caffe


@pytest.fixture(scope="module")
def results(real_caffe, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("live"))
    found = live.compare(real_caffe, folder)
    return {**found, **{kernel: live.run_caffe(real_caffe, folder, kernel, "trainings") for kernel in KERNELS}}


def both(results, prefix):
    """Return [(key, torchcaffe's array, Caffe's array)] below a prefix."""
    ours, theirs = ({k[len(prefix):]: v for k, v in results[e].items() if k.startswith(prefix)} for e in ENGINES[::-1])
    assert ours.keys() == theirs.keys()
    assert ours, prefix
    return [(key, ours[key], theirs[key]) for key in ours]


@pytest.mark.parametrize("name", cases.LAYERS)
def test_layer(results, live_cases, name):
    for key, found, wanted in both(results, f"layer/{name}/"):
        assert np.abs(wanted).max() > 0 or "param" in key, f"{key}: nothing to compare"
        assert live.error(found, wanted) <= LAYER_BOUND, key
    live_cases()


@pytest.mark.parametrize("name", cases.DATA)
def test_batches_are_equal_bit_for_bit(results, live_cases, name):
    for key, found, wanted in both(results, f"data/{name}/"):
        np.testing.assert_array_equal(found, wanted, key)
    live_cases()


@pytest.mark.parametrize("name", ["resize", "oversample", "preprocess", "deprocess", "net_spec", "coord_map"])
def test_pycaffe_without_nets(results, live_cases, name):
    for key, found, wanted in both(results, f"python/{name}"):
        assert live.error(found, wanted) <= LAYER_BOUND, key
    live_cases()


def loss_error(found, wanted):
    return float(np.abs(found / wanted - 1).max())


def check_training(results, rows, run):
    """Compare whole runs; `run` names the one whose spread among Caffe's kernels counts."""
    for key, found, wanted in rows:
        assert key != "loss" or np.ptp(wanted) > 0.02, "the run does not learn anything"
        path = f"train/{run}/{key}"
        measure = loss_error if key == "loss" else live.error
        spread = max(measure(results[kernel][path], results["caffe"][path]) for kernel in KERNELS)
        error = measure(found, wanted)
        print(f"{run} {key}: {error:.1e}, Caffe's kernels {spread:.1e}")
        assert error <= max(TRAIN_BOUND, SPREAD * spread), key


@pytest.mark.parametrize("name", cases.SOLVERS)
def test_training_run(results, live_cases, name):
    check_training(results, both(results, f"train/{name}/"), name)
    live_cases()


@pytest.mark.parametrize("end", [".caffemodel", ".caffemodel.h5"])
@pytest.mark.parametrize("writer", ENGINES)
def test_weights_pass_between_the_engines(results, live_cases, writer, end):
    for key, found, wanted in both(results, f"weights/{writer}{end}/"):
        if key == "prob":
            np.testing.assert_allclose(found, wanted, atol=1e-5)
        else:
            np.testing.assert_array_equal(found, wanted, key)
    live_cases()


@pytest.mark.parametrize("after", ENGINES)
@pytest.mark.parametrize("before", ENGINES)
@pytest.mark.parametrize("name", cases.RESUMED)
def test_a_run_may_change_the_engine_halfway(results, live_cases, name, before, after):
    """Ten iterations on one engine and ten on the other equal twenty on the first."""
    straight = {k: v for k, v in results[before].items() if k.startswith(f"train/resumed_{name}/")}
    rows = []
    for key, wanted in straight.items():
        part = key.rsplit("/", 1)[1]
        found = results[after][f"resume/{name}/{before}/{part}"]
        rows.append((part, found, wanted[10:] if part == "loss" else wanted))
    check_training(results, rows, f"resumed_{name}")
    live_cases()


def test_every_layer_type_is_compared():
    texts = [case.text for case in cases.LAYERS.values()] + [text for text, _ in cases.DATA.values()]
    compared = {text.split('type: "')[1].split('"')[0] for text in texts}
    assert set(LAYERS) - compared == NOT_COMPARED

