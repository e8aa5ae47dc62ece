"""The deploy network on each engine that this Python has: geometry, identity, and the way from pictures to the page."""
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from data_tools.files import read_image, write_image
from data_tools.isic import load_samples, write_groundtruth
from pycam import engine, predictions
from pycam.__main__ import main
from pycam.cam import cell_centres
from pycam.errors import CamError
from pycam.forward import Network, last_maps, load_net, open_net, predict, predict_with_maps
from pycam.preprocess import views
from tests.contract import cam_nets

NET = Path(__file__).parents[2] / "prototxt" / "vgg_gap_narrow_deploy.prototxt"


@pytest.fixture(params=[pytest.param("caffe", marks=pytest.mark.caffe), "torch"])
def name(request):
    needed = {"caffe": "caffe", "torch": "torch"}[request.param]
    if importlib.util.find_spec(needed) is None:
        pytest.skip(f"this Python has no {needed}")
    return request.param


def random_net(caffe, path=NET, seed=0):
    """Return a network with weights drawn by numpy: the same on every engine."""
    random = np.random.RandomState(seed)
    net = caffe.Net(str(path), caffe.TEST)
    for blobs in net.params.values():
        weights = blobs[0].data
        blobs[0].data[...] = random.randn(*weights.shape) * np.sqrt(2 / np.prod(weights.shape[1:]))
        blobs[1].data[...] = random.randn(*blobs[1].data.shape) * 0.01
    net.params["CAM_fc3"][0].data[...] *= 0.01
    return net


def random_weights(caffe, path, seed=0):
    """Write the weights of `random_net`."""
    random_net(caffe, seed=seed).save(str(path))
    return path


@pytest.fixture
def weights(name, tmp_path):
    return random_weights(engine.load(name), tmp_path / "final.caffemodel")


def test_a_pictures_result_does_not_depend_on_its_batch(name, weights):
    net = open_net(NET, weights, engine.Backend(name))
    random = np.random.RandomState(1)
    patches = list(random.randint(0, 128, (3, 224, 224, 3), np.uint8) + random.randint(0, 127, (3, 1, 1, 3), np.uint8))
    together = predict(net, [[patch] for patch in patches])
    alone = np.concatenate([predict(net, [[patch]]) for patch in patches])
    np.testing.assert_allclose(predict(net, [patches])[0], together.mean(axis=0), rtol=1e-6)
    assert together.shape == (3, 3)
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(together.sum(axis=1), 1, rtol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-4


@pytest.mark.parametrize(("deploy", "cells"), [("vgg_gap_narrow", 10), ("vgg_gap", 10), ("googlenet_gap", 12)])
def test_maps_average_to_the_scores_of_the_network(name, deploy, cells):
    """Equations 1 and 2 of the paper: the mean of M_c and the bias are S_c, to 1e-5 of the largest score."""
    net = random_net(engine.load(name), NET.with_name(f"{deploy}_deploy.prototxt"))
    image = np.random.RandomState(2).randint(0, 255, (256, 256, 3), np.uint8)
    _, cams = predict_with_maps(Network(net), [views(image)])
    assert cams.shape == (1, 1, 3, cells, cells)
    cams = cams[0]
    scores = np.array(net.blobs["CAM_fc3"].data)
    bias = np.array(net.params["CAM_fc3"][1].data)
    assert np.abs(scores).max() > 1e-3
    assert np.abs(bias).max() > 1e-3 * np.abs(scores).max()
    np.testing.assert_allclose(cams.mean(axis=(2, 3)) + bias, scores, rtol=0, atol=1e-5 * np.abs(scores).max())


@pytest.fixture
def other_net(name, tmp_path):
    """Return a function that loads a network of a text, with weights drawn by numpy."""
    def load(text, **options):
        path = tmp_path / "other.prototxt"
        path.write_text(text)
        weights = cam_nets.save(engine.load(name), path, tmp_path / "other.caffemodel")
        return load_net(path, weights, engine.Backend(name), **options)
    return load


@pytest.mark.parametrize("build", cam_nets.WITH_AVERAGE, ids=lambda build: build.__name__)
def test_of_any_network_with_an_average_cam_adds_up_to_the_scores_and_is_grad_cam(other_net, build):
    """Selvaraju et al., section 3.1: the mean gradient is the classifier's weight over the number of cells."""
    image = np.random.RandomState(5).randint(0, 255, (90, 120, 3), np.uint8)
    network = other_net(build())
    network.net.frugal = False  # the scores are read below
    probs, cams = predict_with_maps(network, [network.views(image), network.views(image[::-1])])
    assert network.parts.method == "cam"
    assert probs.shape[1] == cams.shape[2] == len(network.classes)
    scores = np.array(network.net.blobs[network.parts.scores].data).reshape(2, -1)
    bias = np.array(network.net.params[network.parts.classifier][1].data) if network.parts.classifier else 0
    top = np.abs(scores).max()
    np.testing.assert_allclose(cams[:, 0].mean(axis=(2, 3)) + bias, scores, rtol=0, atol=1e-5 * top)
    by_gradient = other_net(build(), method="gradcam")
    predict(by_gradient, [network.views(image), network.views(image[::-1])], maps=True)
    some = last_maps(by_gradient, [3, 1])
    np.testing.assert_allclose(some * some[0, 0].size, cams[:, 0, [3, 1]], rtol=0, atol=1e-5 * np.abs(cams).max())
    assert np.abs(cams[:, 0, 3] - cams[:, 0, 1]).max() > 0.1 * np.abs(cams).max()


def test_grad_cam_is_cam_on_vgg_gap(name, weights):
    image = np.random.RandomState(6).randint(0, 255, (256, 256, 3), np.uint8)
    cams, by_gradient = (predict_with_maps(load_net(NET, weights, engine.Backend(name), method=method), [views(image, "ten")])[1]
                         for method in ("cam", "gradcam"))
    assert cams.shape == (1, 10, 3, 10, 10)
    np.testing.assert_allclose(by_gradient * 100, cams, rtol=0, atol=1e-5 * np.abs(cams).max())


def test_grad_cam_weighs_channels_by_what_they_change_of_the_score(other_net):
    """Without an average: each channel's weight against the difference that adding to the channel makes."""
    network = other_net(cam_nets.alexnet_dense())
    image = np.random.RandomState(7).randint(0, 255, (90, 120, 3), np.uint8)
    predict(network, [network.views(image)], maps=True)
    (cam,) = last_maps(network, [2])[0]
    net, channels = network.net, []
    features, scores = net.blobs["conv5"], net.blobs["fc8"]
    before = np.array(features.data)
    for channel in range(before.shape[1]):
        ends = []
        for step in (-0.01, 0.01):
            features.data[...] = before
            features.data[:, channel] += step
            net.forward(start="pool5")
            ends.append(float(np.array(scores.data)[0, 2]))
        channels.append((ends[1] - ends[0]) / 0.02 / before[0, 0].size)
    expected = np.tensordot(channels, before[0], 1)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(cam, expected, rtol=0, atol=2e-3 * np.abs(expected).max())


def test_maps_that_the_weights_do_not_fit_are_refused(other_net):
    with pytest.raises(CamError, match=r"CAM_fc does not work on the global average of conv5_3 \(168 weights, expected 140\)"):
        other_net(cam_nets.vgg16_cam(), cam_layer="conv5_3", fc_layer="CAM_fc")
    with pytest.raises(CamError, match="no blob pool6 whose cells have a place"):
        other_net(cam_nets.mobilenet(), cam_layer="pool6")
    with pytest.raises(CamError, match="fc6 has no places"):
        other_net(cam_nets.alexnet_dense(), cam_layer="fc6")
    with pytest.raises(CamError, match=r"CAM_fc has 7 outputs; expected 2 \(a, b\)"):
        other_net(cam_nets.vgg16_cam(), classes=["a", "b"])
    with pytest.raises(CamError, match="227 pixels a side; expected a size of at least that, not 224"):
        other_net(cam_nets.alexnet_cam(), size=224)


@pytest.mark.parametrize("cell", [1, 4, 7])
def test_a_cell_sees_the_place_where_it_is_drawn(name, cell):
    """D16 by experiment: a light at a cell's centre excites the map evenly about that cell."""
    caffe = engine.load(name)
    net = caffe.Net(str(NET), caffe.TEST)
    for blobs in net.params.values():
        blobs[0].data[...] = 1 / np.prod(blobs[0].data.shape[1:])
        blobs[1].data[...] = 0
    before, after = (int(cell_centres(10)[cell] + offset) for offset in (-0.5, 1.5))
    light = np.zeros((1, 3, 224, 224), np.float32)
    light[:, :, before:after, before:after] = 1000
    net.blobs["data"].data[...] = light
    net.forward()
    features = np.array(net.blobs["CAM_conv"].data)[0].sum(axis=0)
    assert np.unravel_index(features.argmax(), features.shape) == (cell, cell)
    for row in (features, features.T):
        np.testing.assert_allclose(row[cell, cell - 1], row[cell, cell + 1], rtol=1e-3)
        assert row[cell, cell - 1] < 0.999 * row[cell, cell]


def test_a_device_that_is_not_there_is_one_error_and_no_abort(name, capsys, tmp_path, weights):
    write_image(tmp_path / "a.png", np.zeros((9, 9, 3), np.uint8))
    assert main(["predict", "--net", str(NET), "--weights", str(weights), "--images", str(tmp_path), "--engine", name,
                 "--out", str(tmp_path / "p.csv"), "--gpu", "63"]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert message.startswith("error: ")


def test_weights_of_another_network_are_refused(name, weights, tmp_path):
    wide = NET.with_name("vgg_gap_deploy.prototxt")
    with pytest.raises(CamError, match="other shapes in conv1_1"):
        engine.deploy_net(engine.load(name), wide, weights)


def test_from_pictures_to_the_page(name, weights, tmp_path, capsys):
    pytest.importorskip("matplotlib.figure")
    random = np.random.RandomState(3)
    for split in ("train", "val"):
        (tmp_path / "clean" / split).mkdir(parents=True)
        labels = {f"ISIC_{n:07}": n % 3 for n in range(6)}
        for i in labels:
            write_image(tmp_path / "clean" / split / f"{i}.jpg", random.randint(0, 255, (120, 160, 3), np.uint8))
        write_groundtruth(tmp_path / "clean" / split / "groundtruth.csv", labels)
    common = ["--net", str(NET), "--weights", str(tmp_path), "--engine", name]
    val, results = tmp_path / "clean" / "val", tmp_path / "results"
    steps = [["crops", *common, "--images", str(tmp_path / "clean" / split), "--out", str(tmp_path / "crops" / split),
              "--rule", "released"] for split in ("train", "val")]
    steps += [["predict", *common, "--images", str(folder), "--out", str(results / f"stage{stage}_val.csv")]
              for stage, folder in (("1", val), ("2", tmp_path / "crops" / "val"))]
    steps.append(["table1", "--truth", str(val / "groundtruth.csv"), "--out", str(results),
                  *[f"--stage{s}={results}/stage{s}_val.csv" for s in "12"]])
    steps.append(["report", "--run", str(tmp_path), *common, "--out", str(tmp_path / "report.html")])
    assert [main(words) for words in steps] == [0] * 6
    messages = capsys.readouterr().err
    assert [line for line in messages.splitlines() if "left out" in line] == [
        f"left out: Training: {tmp_path}: no stage1/train.log; train first"]
    net = open_net(NET, tmp_path, engine.Backend(name))
    sample = load_samples(val)[4]
    probs, _ = predict_with_maps(net, [views(read_image(sample.path))])
    written = predictions.read(results / "stage1_val.csv")[sample.image_id]
    np.testing.assert_allclose(written, probs[0], rtol=1e-4, atol=1e-7)
    capsys.readouterr()
    assert [main(words) for words in steps] == [0] * 6
    assert [line for line in capsys.readouterr().out.splitlines() if line.endswith(": up to date")] == [
        f"{step}: up to date" for step in ("crops/train", "crops/val", "predict/stage1_val", "predict/stage2_val", "table/val",
                                           "report")]
