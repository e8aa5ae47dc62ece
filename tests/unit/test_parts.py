"""What maps are made of is found in the graph of networks of every kind, or named."""
import pytest

from pycam.cam import Grid, read_grid
from pycam.errors import CamError
from pycam.parts import OURS, Parts, find_parts
from tests.contract import cam_nets
from tests.contract.cam_nets import now, window


def write(folder, text):
    path = folder / "deploy.prototxt"
    path.write_text(text)
    return path


@pytest.mark.parametrize("build", cam_nets.WITH_AVERAGE, ids=lambda build: build.__name__)
def test_what_is_averaged_and_its_classifier_are_found(tmp_path, build):
    features, classifier, (first, pitch, side) = cam_nets.WITH_AVERAGE[build]
    path = write(tmp_path, build())
    scores = classifier or "pool10"
    assert find_parts(path) == Parts("data", features, classifier, scores, "prob", "cam")
    assert find_parts(path, "cam") == find_parts(path)
    assert find_parts(path, "gradcam") == Parts("data", features, "", scores, "prob", "gradcam")
    assert read_grid(path, features) == Grid(first, pitch, side)


@pytest.mark.parametrize("name", ["vgg_gap", "vgg_gap_narrow", "googlenet_gap"])
def test_our_own_networks_have_the_parts_that_are_the_defaults(name):
    path = cam_nets_root() / f"{name}_deploy.prototxt"
    assert find_parts(path) == OURS


def cam_nets_root():
    from pycam.init import source

    return source("prototxt")


def test_without_an_average_the_last_convolution_is_mapped_by_gradient(tmp_path):
    path = write(tmp_path, cam_nets.alexnet_dense())
    assert find_parts(path) == Parts("data", "conv5", "", "fc8", "prob", "gradcam")
    assert read_grid(path, "conv5") == Grid(5 + 4 + 8, 16, 227)
    with pytest.raises(CamError, match=r"global average of conv5, .*gradcam"):
        find_parts(path, "cam")


def test_layers_can_be_named(tmp_path):
    path = write(tmp_path, cam_nets.vgg16_cam())
    named = find_parts(path, cam_layer="conv4_3")
    assert (named.features, named.method) == ("conv4_3", "gradcam")  # the classifier has no weights for it
    assert find_parts(path, cam_layer="CAM_conv") == find_parts(path, fc_layer="CAM_fc") == find_parts(path)
    assert find_parts(path, cam_layer="conv5_3", fc_layer="CAM_fc").method == "cam"  # somebody knows better
    for name in ("CAM_cnv", "conv9"):
        with pytest.raises(CamError, match=f"layer '{name}' is not known"):
            find_parts(path, cam_layer=name)


def test_of_two_heads_one_is_named(tmp_path):
    text = cam_nets.resnet() + now("other", "InnerProduct", "pool5", more=window("inner_product", num_output=2))
    path = write(tmp_path, text)
    assert find_parts(path).classifier == "other"
    assert find_parts(path, fc_layer="fc1000").classifier == "fc1000"


def test_an_activation_of_its_own_name_belongs_to_the_last_convolution(tmp_path):
    text = cam_nets.stem() + now("c2", "Convolution", "conv1", more=window("convolution", num_output=3, kernel_size=3))
    text += now("bn2", "BatchNorm", "c2") + now("r2", "ReLU", "bn2", "r2")
    text += now("pool", "Pooling", "r2", more=window("pooling", pool="MAX", kernel_size=2, stride=2))
    path = write(tmp_path, text + now("fc", "InnerProduct", "pool", more=window("inner_product", num_output=2)))
    assert find_parts(path) == Parts("data", "r2", "", "fc", "fc", "gradcam")  # no softmax: the scores stand for themselves


def test_a_network_without_convolution_is_refused(tmp_path):
    path = write(tmp_path, cam_nets.INPUT.format(8) + cam_nets.head("data"))
    with pytest.raises(CamError, match="no convolution below prob"):
        find_parts(path)


@pytest.mark.parametrize(("kind", "fields", "message"), [
    ("Deconvolution", {"kernel_size": 2, "stride": 2}, "not placed through Deconvolution"),
    ("Convolution", {"kernel_h": 3, "kernel_w": 1}, "square")])
def test_cells_whose_place_is_not_known_are_refused(tmp_path, kind, fields, message):
    path = write(tmp_path, cam_nets.stem() + now("c", kind, "conv1", more=window("convolution", num_output=3, **fields)))
    with pytest.raises(CamError, match=message):
        read_grid(path, "c")


def test_windows_that_are_longer_one_way_and_padded_look_at_the_same_place(tmp_path):
    path = write(tmp_path, cam_nets.stem() + now("wide", "Convolution", "conv1", more=window(
        "convolution", num_output=3, kernel_h=1, kernel_w=7, pad_h=0, pad_w=3)))
    assert read_grid(path, "wide") == Grid(0, 4, 64)


def test_a_gate_on_a_global_average_does_not_move_the_cells(tmp_path):
    text = cam_nets.stem() + now("squeeze", "Pooling", "conv1", more=window("pooling", pool="AVE", global_pooling="true"))
    text += now("gate", "Convolution", "squeeze", more=window("convolution", num_output=6, kernel_size=1))
    path = write(tmp_path, text + now("gated", "Eltwise", "conv1 gate"))
    assert read_grid(path, "gated") == Grid(0, 4, 64)


def test_inputs_that_are_not_square_are_refused(tmp_path):
    path = write(tmp_path, 'input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 9\n' + cam_nets.now_conv(
        "c", "data", num_output=1, kernel_size=3))
    with pytest.raises(CamError, match="1 x 3 x 8 x 9; expected N x 3 x S x S"):
        read_grid(path, "c")
