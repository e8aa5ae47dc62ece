"""What scripts for pycaffe do beside whole passes: other shapes, writes into arrays, hooks, layers of their own, odd texts."""

import sys
import types

import numpy as np
import pytest

import torchcaffe as caffe

FORCE = "force_backward: true\n"


def blob(name, *dims):
    shape = " ".join(f"dim: {n}" for n in dims)
    return f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {shape} }} }} }}\n'


def layer(kind, fields="", bottom="x", top="y"):
    return f'layer {{ name: "{top}" type: "{kind}" bottom: "{bottom}" top: "{top}" {fields} }}\n'


# ------------------------------------------------------------ other shapes later: axes count anew, as in Caffe's Reshape
RESHAPED = {  # layer, its field, the shape of its top for a bottom of 2 x 3 x 4 x 5 after one of 2 x 7
    "Flatten": ("", (2, 60)), "Softmax": ("softmax_param { axis: -1 }", (2, 3, 4, 5)),
    "Reduction": ("reduction_param { axis: -1 }", (2, 3, 4)), "Tile": ("tile_param { axis: -1 tiles: 2 }", (2, 3, 4, 10)),
    "Concat": ("concat_param { axis: -1 }", (2, 3, 4, 5)), "ArgMax": ("argmax_param { axis: -1 }", (2, 3, 4, 1))}


@pytest.mark.parametrize("kind", sorted(RESHAPED))
def test_axes_follow_the_shape(make_net, kind):
    fields, shape = RESHAPED[kind]
    later, first = (make_net(blob("x", *dims) + layer(kind, fields)) for dims in ((2, 7), (2, 3, 4, 5)))
    x = np.random.RandomState(1).randn(2, 3, 4, 5)
    later.blobs["x"].reshape(2, 3, 4, 5)
    for net in (later, first):
        net.blobs["x"].data[...] = x
    assert later.forward()["y"].shape == shape
    np.testing.assert_array_equal(later.blobs["y"].data, first.forward()["y"])


def test_the_index_of_the_highest_value_is_that_of_a_longer_row(make_net):
    net = make_net(blob("x", 2, 3) + layer("ArgMax"))
    net.blobs["x"].reshape(2, 7)
    net.blobs["x"].data[...] = np.arange(7)
    assert net.forward()["y"].ravel().tolist() == [6, 6]
    net.blobs["x"].reshape(2, 0)
    with pytest.raises(caffe.CaffeError, match="top_k is 1, there are 0 values"):
        net.forward()


def test_the_last_axis_of_an_inner_product_and_a_scale(make_net):
    net = make_net(blob("x", 2, 5) + layer("InnerProduct", "inner_product_param { axis: -1 num_output: 3 }")
                   + layer("Scale", "scale_param { axis: -1 filler { value: 2 } }", top="z"))
    net.blobs["x"].reshape(2, 4, 5)
    net.blobs["x"].data[...] = 1
    tops = net.forward()
    assert (tops["y"].shape, tops["z"].shape, tops["z"].max()) == ((2, 4, 3), (2, 4, 5), 2)


def test_other_channels_are_one_line(make_net):
    net = make_net(blob("x", 2, 3) + layer("PReLU"))
    net.blobs["x"].reshape(2, 4)
    with pytest.raises(caffe.CaffeError, match=r"layer 'y' .*set up for \(3,\) channels, gets shape \(2, 4\)"):
        net.forward()


# ------------------------------------------------------------ writes into arrays
def test_a_write_into_a_top_leaves_the_bottom(make_net):
    net = make_net(blob("x", 2, 3) + layer("Dropout") + layer("Slice", 'top: "z" slice_param { axis: 0 }', top="s"), caffe.TEST)
    net.blobs["x"].data[...] = 1
    net.forward()
    for name in ("y", "s", "z"):
        net.blobs[name].data[...] = 5
    assert net.blobs["x"].data.max() == 1


SHARED = {"Flatten": "", "Reshape": "reshape_param { shape { dim: 3 dim: 2 } }", "Concat": "", "Slice": ""}  # one bottom, one top


@pytest.mark.parametrize("kind", sorted(SHARED))
def test_a_top_that_is_its_bottoms_memory(make_net, kind):
    net = make_net(FORCE + blob("x", 2, 3) + layer("Power", "power_param { scale: 2 }", top="p")
                   + layer(kind, SHARED[kind], "p") + layer("Power", "power_param { scale: 3 }", "y", "z"))
    net.forward()  # from now on in Caffe
    held = net.blobs["y"].data
    for i in range(1, 3):
        net.blobs["x"].data[...] = i
        net.forward()
        assert (held == 2 * i).all()
        net.blobs["p"].data.flat[4] = 7
        assert held.flat[4] == 7
        held.flat[1] = 5
        assert net.blobs["p"].data.flat[1] == 5
        np.testing.assert_array_equal(net.forward(start="z")["z"].ravel(), 3 * held.ravel())
        net.blobs["z"].diff[...] = i
        net.backward()
        assert (net.blobs["p"].diff == 3 * i).all()
        assert (net.blobs["x"].diff == 6 * i).all()
        net.blobs["p"].diff.flat[2] = 9
        assert net.blobs["y"].diff.flat[2] == 9


def test_the_copies_for_several_readers_are_one_memory(make_net):
    net = make_net(FORCE + blob("x", 2, 3) + layer("Power", top="p") + layer("Power", "", "p", "a")
                   + layer("Power", "power_param { scale: 2 }", "p", "b"))
    net.forward()
    copies = [name for name in net.blobs if "split" in name]
    net.blobs[copies[0]].data[...] = 4
    assert (net.blobs["p"].data == 4).all()
    net.forward(start="a")
    assert (net.blobs["b"].data == 8).all()
    for name, diff in (("a", 1), ("b", 10)):
        net.blobs[name].diff[...] = diff
    net.backward()
    assert [net.blobs[name].diff.max() for name in [*copies, "p"]] == [1, 20, 21]


@pytest.mark.parametrize("look", [False, True])
@pytest.mark.parametrize("kind", ["Flatten", "Reshape"])
def test_what_works_in_place_behind_another_shape_changes_what_others_read(make_net, kind, look):
    """As in Caffe, where the other shape is the same memory; who read it before has what it was then."""
    net = make_net(FORCE + blob("x", 1, 6) + layer("Sigmoid", "", "x", "p")
                   + layer("AbsVal", "", "p", "early") + layer(kind, SHARED[kind], "p", "y")
                   + layer("Bias", "bias_param { filler { value: 5 } }", "y", "y") + layer("Power", "", "p", "late"))
    if look:
        held = [(b.data, b.diff) for b in net.blobs.values()]
    net.blobs["x"].data[...] = 0
    for _ in range(2):
        tops = net.forward()
        assert [float(tops[name].max()) for name in ("early", "late", "y")] == [0.5, 5.5, 5.5]
        net.backward()
    if look:
        del held


@pytest.mark.parametrize("look", [False, True])
def test_what_works_in_place_behind_another_shape_leaves_what_a_gradient_needs(make_net, look):
    net = make_net(FORCE + blob("x", 1, 6) + layer("Sigmoid", "", "x", "p") + layer("Flatten", "", "p", "y")
                   + layer("Bias", "bias_param { filler { value: 5 } }", "y", "y") + layer("Power", "", "y", "z"))
    net.blobs["x"].data[...] = 0
    net._forward(0, 1)
    held = net.blobs["p"].data if look else None
    net.forward(start=net._layer_names[2])
    net.blobs["z"].diff[...] = 1
    net.backward()
    assert net.blobs["x"].diff.tolist() == [[0.25] * 6]
    del held


def test_a_blob_that_others_share_gets_another_memory(make_net):
    net = make_net(blob("x", 2, 3) + layer("Flatten") + layer("Power", "", "y", "z"))
    net.forward()
    for rows in (4, 2):
        net.blobs["x"].reshape(rows, 3)
    net.blobs["x"].data[...] = 5
    assert net.forward()["z"].min() == 5


def test_memory_stays_where_a_blob_gets_smaller(make_net):
    net = make_net(blob("x", 2, 3) + layer("Power"))
    held = net.blobs["x"].data
    held[...] = [[1, 2, 3], [4, 5, 6]]
    net.blobs["x"].reshape(1, 2)
    assert net.blobs["x"].data.tolist() == [[1, 2]]
    net.blobs["x"].data[...] = 9
    assert net.forward()["y"].tolist() == [[9, 9]]
    net.blobs["x"].reshape(3, 2)
    assert net.blobs["x"].data.tolist() == [[9, 9], [3, 4], [5, 6]]
    held[0, 0] = 0
    assert net.forward()["y"].tolist() == [[0, 9], [3, 4], [5, 6]]
    net.blobs["x"].reshape(2, 4)  # larger than it ever was: another memory
    assert not net.blobs["x"].data.any()


def test_a_blob_that_others_share_gets_smaller(make_net):
    net = make_net(blob("x", 1, 6) + layer("Power") + layer("Flatten", "", "y", "z") + layer("Power", "", "z", "w"))
    net.blobs["x"].data[...] = 1
    net.forward()
    net.blobs["x"].reshape(1, 2)
    net.forward(end="y")
    assert net.blobs["z"].data.shape == (1, 6)
    assert net.forward()["w"].tolist() == [[1, 1]]
    with pytest.raises(caffe.CaffeError, match="cannot have the shape"):
        net.blobs["x"].reshape(1, -2)


def test_a_write_into_a_cut_of_the_whole_leaves_the_bottom(make_net):
    net = make_net(blob("x", 2, 3) + blob("like", 2, 3)
                   + layer("Crop", "crop_param { axis: 1 }").replace('bottom: "x"', 'bottom: "x" bottom: "like"'))
    net.forward()
    net.blobs["y"].data[...] = 5
    assert not net.blobs["x"].data.any()


def test_writes_into_a_flat_view_of_a_convolutions_top_count(make_net):
    net = make_net(blob("x", 1, 8, 6, 6) + layer("Convolution", "convolution_param { num_output: 8 kernel_size: 3 }", top="c")
                   + layer("Power", "", "c"))
    for _ in range(2):
        net.forward()
        net.blobs["c"].data.reshape(-1)[3] = 100
        net.blobs["c"].data.ravel()[5] = 50
        assert net.forward(start="y")["y"].ravel()[[3, 5]].tolist() == [100, 50]


# ------------------------------------------------------------ hooks
def test_functions_are_called_before_and_after_each_layer(make_net):
    net = make_net(FORCE + blob("x", 2, 3) + layer("Power", "power_param { scale: 2 }"))
    calls = []
    for when in ("before_forward", "after_forward", "before_backward", "after_backward"):
        getattr(net, when)(lambda number, when=when: calls.append((when, number)))
    net.after_forward(lambda number: net.blobs["x"].data.fill(3) if number == 0 else None)
    assert net.forward()["y"].max() == 6  # what a function writes between two layers counts
    net.backward()
    assert calls == [("before_forward", 0), ("after_forward", 0), ("before_forward", 1), ("after_forward", 1),
                     ("before_backward", 1), ("after_backward", 1), ("before_backward", 0), ("after_backward", 0)]


# ------------------------------------------------------------ layers of their own
def python_layer(monkeypatch, kind):
    module = types.ModuleType("own_layers")
    module.Own = kind
    monkeypatch.setitem(sys.modules, "own_layers", module)
    return layer("Python", 'python_param { module: "own_layers" layer: "Own" }')


def test_a_layer_may_take_its_parameter(make_net, monkeypatch):
    class Own(caffe.Layer):
        def __init__(self, p_object, *args, **kwargs):
            super().__init__(p_object, *args, **kwargs)
            self.given = p_object.name

        def reshape(self, bottom, top):
            top[0].reshape(1)

        def forward(self, bottom, top):
            top[0].data[0] = len(self.given)

    assert make_net(blob("x", 2, 3) + python_layer(monkeypatch, Own)).forward()["y"].tolist() == [1]


def test_a_layer_without_a_gradient_is_one_line_where_one_is_asked_for(make_net, monkeypatch):
    class Own(caffe.Layer):
        def reshape(self, bottom, top):
            top[0].reshape(*bottom[0].data.shape)

    net = make_net(FORCE + blob("x", 2, 3) + python_layer(monkeypatch, Own))
    net.forward()
    with pytest.raises(caffe.CaffeError, match=r"layer 'y' .*no method backward, which the gradient needs"):
        net.backward()


# ------------------------------------------------------------ texts
def test_parameters_in_the_text_of_a_net(make_net):
    text = blob("x", 2, 3) + layer("InnerProduct", "inner_product_param { num_output: 2 } blobs { shape { dim: 2 dim: 3 } "
                                   "data: 1 data: 2 data: 3 data: 4 data: 5 data: 6 } blobs { shape { dim: 2 } data: 7 data: 8 }")
    net = make_net(text)
    assert [b.data.tolist() for b in net.params["y"]] == [[[1, 2, 3], [4, 5, 6]], [7, 8]]
    with pytest.raises(caffe.CaffeError, match="its text holds 1 blobs, it has 2"):
        make_net(text.replace("blobs { shape { dim: 2 } data: 7 data: 8 }", ""))
    with pytest.raises(caffe.CaffeError, match=r"its text holds a blob of shape \(1,\), it has \(2,\)"):
        make_net(text.replace("shape { dim: 2 } data: 7 data: 8", "shape { dim: 1 } data: 7"))


@pytest.mark.parametrize(("text", "fault"), [
    (layer("Clip", "clip_param { min: -1 }"), r"required, but missing: layer\[1\].clip_param.max"),
    (layer("Concat", "concat_param { axis: 1 concat_dim: 1 }"), "give either axis or concat_dim, not both"),
    (layer("Slice", "slice_param { axis: 1 slice_dim: 1 }"), "give either axis or slice_dim, not both")])
def test_texts_that_caffe_refuses(make_net, text, fault):
    with pytest.raises(caffe.CaffeError, match=fault):
        make_net(blob("x", 2, 3) + text)


def test_the_level_is_that_of_the_arguments(make_net):
    net = make_net("state { level: 2 }\n" + blob("x", 2, 3) + layer("Power").replace("top:", "include { min_level: 1 } top:"))
    assert list(net.blobs) == ["x"]


def test_saved_layers_have_a_phase(make_net, tmp_path):
    make_net(blob("x", 2, 3) + layer("PReLU"), caffe.TEST).save(str(tmp_path / "a.caffemodel"))
    message = caffe.proto.caffe_pb2.NetParameter.FromString((tmp_path / "a.caffemodel").read_bytes())
    assert [(one.HasField("phase"), one.phase) for one in message.layer] == [(True, caffe.TEST)] * len(message.layer)


# ------------------------------------------------------------ names
def test_errors_are_runtime_errors(tmp_path):
    with pytest.raises(RuntimeError, match="No such file"):
        caffe.Net(str(tmp_path / "none.prototxt"), caffe.TEST)


def test_what_io_imports_is_there():
    assert caffe.io.resize(np.ones((4, 4)), (2, 2)).shape == (2, 2)
    assert caffe.io.zoom(np.ones((4, 4)), 0.5).shape == (2, 2)
    assert caffe.io.skimage.io.imread
    with pytest.raises(AttributeError, match="nothing"):
        caffe.io.nothing  # noqa: B018


def test_a_log_level_that_is_no_number_hides_nothing(monkeypatch, capsys):
    monkeypatch.setenv("GLOG_minloglevel", "abc")
    caffe.log("seen")
    assert capsys.readouterr().err.endswith("_caffe.cpp:68] seen\n")


def test_an_adam_that_would_divide_by_zero_is_refused(tmp_path):
    net = blob("x", 2, 3) + layer("InnerProduct", "inner_product_param { num_output: 1 }")
    text = f'net_param {{ {net} }} type: "Adam" momentum: 1 base_lr: 0.1 lr_policy: "fixed" snapshot_after_train: false'
    (tmp_path / "solver.prototxt").write_text(text)
    with pytest.raises(caffe.CaffeError, match=r"solver: momentum is 1, it must be below 1 for Adam"):
        caffe.get_solver(str(tmp_path / "solver.prototxt"))


def test_a_hinge_loss_counts_its_labels(make_net):
    net = make_net(blob("x", 2, 3) + blob("l", 2, 3) + layer("HingeLoss").replace('bottom: "x"', 'bottom: "x" bottom: "l"'))
    with pytest.raises(caffe.CaffeError, match=r"layer .y. .HingeLoss.: 6 labels for 2 items"):
        net.forward()
