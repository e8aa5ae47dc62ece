"""What scripts for pycaffe do beside whole passes: other shapes, writes into arrays, hooks, layers of their own, odd texts."""

import sys
import types

import numpy as np
import pytest

import torchcaffe as caffe
from torchcaffe import __main__ as command

from .texts import FORCE, blob, layer

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

        def forward(self, bottom, top):
            pass

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


# ------------------------------------------------------------ nets
LOSS = blob("x", 2, 3) + blob("l", 2) + layer("SoftmaxWithLoss").replace('bottom: "x"', 'bottom: "x" bottom: "l"')


def test_the_weight_of_a_loss_is_saved_as_by_caffe(make_net, tmp_path):
    given = caffe.proto.caffe_pb2.NetParameter()
    net = make_net(LOSS)
    net.save(str(tmp_path / "a.caffemodel"))
    given.ParseFromString((tmp_path / "a.caffemodel").read_bytes())
    assert [list(one.loss_weight) for one in given.layer][-1] == [1]
    assert [list(one.loss_weight) for one in given.layer][:-1] == [[], []]
    given.layer[-1].ClearField("loss_weight")
    before = given.SerializeToString()
    caffe.Net(given, caffe.TRAIN)
    assert given.SerializeToString() == before


def test_a_layer_that_a_net_lacks_is_named_when_weights_are_shared(make_net, capsys):
    ip = layer("InnerProduct", "inner_product_param { num_output: 1 }")
    make_net(blob("x", 2, 3)).share_with(make_net(blob("x", 2, 3) + ip))
    assert capsys.readouterr().err.endswith("net.cpp:678] Ignoring source layer y\n")


def test_inputs_and_gradients_of_different_length_run_as_far_as_they_are_there(make_net):
    net = make_net("force_backward: true\n" + blob("x", 2, 3) + layer("Power", "power_param { scale: 2 }"))
    data, diffs = net.forward_backward_all(diffs=["x"], x=np.ones((3, 3)), y=np.ones((5, 3)))
    assert (data["y"].shape, diffs["x"].shape) == ((3, 3), (3, 3))


@pytest.mark.parametrize("shape", [([2, 3],), (2.0, 3), ("2", 3)])
def test_a_blob_takes_lengths_only(shape):
    with pytest.raises(caffe.CaffeError, match=r"give lengths, one after the other: reshape\(2, 3\)"):
        caffe.Blob((1,)).reshape(*shape)


def test_an_unknown_layer_is_a_value_error_as_in_pycaffe(make_net):
    with pytest.raises(ValueError, match="has no layer 'nope'"):
        make_net(LOSS).forward(end="nope")


@pytest.mark.parametrize("by_solver", [False, True])
def test_the_norms_of_all_parameters_are_the_solvers_to_show(tmp_path, capsys, by_solver):
    ip = layer("InnerProduct", "inner_product_param { num_output: 3 }", "x", "i").replace('name: "y"', 'name: "i"')
    loss = layer("SoftmaxWithLoss", 'bottom: "l"', "i")
    net = blob("x", 2, 3) + blob("l", 2) + ip + loss
    (tmp_path / "s.prototxt").write_text(f'net_param {{ {net} }} base_lr: 0 lr_policy: "fixed" '
                                         "display: 1 debug_info: true snapshot_after_train: false")
    solver = caffe.get_solver(str(tmp_path / "s.prototxt"))
    if by_solver:
        solver.step(1)
    else:
        solver.net.debug_info = True
        solver.net.forward()
        solver.net.backward()
    shown = capsys.readouterr().err
    assert "[Backward] Layer" in shown
    assert ("All net params (data, diff)" in shown) == by_solver


def test_a_crop_leaves_the_gradient_of_what_it_measures_by(make_net):
    """FCN-16s and FCN-8s crop by a blob that is added to what was cropped."""
    net = make_net(blob("x", 2, 4) + blob("t", 2, 3) + layer("InnerProduct", "inner_product_param { num_output: 3 }", top="a")
                   + layer("Crop", 'bottom: "a" crop_param { axis: 1 }', "x", "c")
                   + layer("Eltwise", 'bottom: "c"', "a", "sum") + layer("EuclideanLoss", 'bottom: "t"', "sum", "loss"))
    net.blobs["x"].data[...] = 1
    net.forward()
    net.backward()
    copies = [name for name in net.blobs if name.startswith("a_")]
    assert [float(net.blobs[name].diff.sum()) for name in ["a", *copies]] == [3, 0, 3]
    assert net.params["a"][1].diff.tolist() == [1, 1, 1]


def test_of_two_layers_of_one_name_the_first_takes_the_weights(make_net, capsys, tmp_path):
    fields = "inner_product_param { num_output: 3 bias_term: false weight_filler { value: %d } }"
    one = make_net(blob("x", 2, 3) + layer("InnerProduct", fields % 5, top="fc"))
    one.save(str(tmp_path / "w.caffemodel"))
    for load in ("copy_from", "share_with"):
        two = make_net(blob("x", 2, 3) + layer("InnerProduct", fields % 1, top="fc")
                       + layer("InnerProduct", fields % 1, "fc", "y").replace('name: "y"', 'name: "fc"'))
        assert "2 layers 'fc' have parameters" in capsys.readouterr().err
        getattr(two, load)(str(tmp_path / "w.caffemodel") if load == "copy_from" else one)
        assert [float(la.blobs[0].data.max()) for la in two.layers if la.blobs] == [5, 1]


@pytest.mark.parametrize("phase", [2, -1, 0.5])
def test_a_phase_that_is_none_is_one_line(make_net, phase):
    with pytest.raises(caffe.CaffeError, match=r"the phase is .*; give TRAIN or TEST"):
        make_net(blob("x", 2, 3), phase)


def test_a_flat_gradient_is_shared_on_the_way_back_only(make_net):
    net = make_net(blob("x", 2, 3) + layer("Flatten"))
    net.forward()
    net.blobs["y"].diff[...] = 1
    assert not net.backward()["x"].any()  # nothing needs it


def test_names_are_listed():
    assert {"Net", "Classifier", "SGDSolver", "io", "classifier", "detector", "TRAIN"} <= set(dir(caffe))
    assert caffe.classifier.Classifier is caffe.Classifier


def test_the_compiled_modules_names(make_net):
    from torchcaffe import _caffe, pycaffe
    net = make_net(blob("x", 2, 3) + layer("InnerProduct", "inner_product_param { num_output: 2 }"))
    assert type(net.params["y"]) is _caffe.BlobVec is _caffe.RawBlobVec
    assert (_caffe.Net, _caffe.SGDSolver, _caffe.Layer) == (pycaffe.Net, caffe.SGDSolver, caffe.Layer)
    assert issubclass(pycaffe.AdamSolver, _caffe.Solver)
    assert "Convolution" in _caffe.layer_type_list()


def test_a_step_can_be_followed_by_a_backward_pass(tmp_path):
    """Also where the layers' gradients need what they kept: Dropout, BatchNorm, TanH in place."""
    (tmp_path / "net.prototxt").write_text(
        blob("x", 4, 3) + blob("t", 4, 2)
        + layer("InnerProduct", "inner_product_param { num_output: 2 weight_filler { value: 1 } }")
        + layer("BatchNorm", "", "y", "n") + layer("TanH", "", "n", "n") + layer("Dropout", "", "n", "d")
        + layer("EuclideanLoss", 'bottom: "t"', "d", "loss"))
    (tmp_path / "solver.prototxt").write_text(f'net: "{tmp_path}/net.prototxt" base_lr: 0 lr_policy: "fixed" random_seed: 1')
    solver = caffe.get_solver(str(tmp_path / "solver.prototxt"))
    solver.net.blobs["x"].data[...] = np.random.RandomState(0).randn(4, 3)
    solver.step(1)
    first = solver.net.blobs["y"].diff.copy()
    assert first.any()
    solver.net.blobs["y"].diff[...] = 0
    solver.net.backward()
    np.testing.assert_array_equal(solver.net.blobs["y"].diff, first)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize(("dims", "fields", "adds"), [
    ((1, 3, 2, 2), "", False), ((2, 3, 2, 2), "", True), ((1, 1, 2, 2), "", True), ((1, 3), "", False),
    ((2, 3), "axis: 0 num_axes: -1", False)])
def test_a_factors_gradient_is_added_to_or_written_over_as_in_caffe(make_net, dims, fields, adds, norm):
    """Caffe writes over it where nothing lies in front of the factors' axes, and where each value has its own; not the bias's."""
    top = "n" if norm else "y"  # in place, the two run as one
    scale = layer("Scale", f"scale_param {{ bias_term: true filler {{ value: 2 }} {fields} }}", "n", top)
    net = make_net(FORCE + blob("x", *dims) + layer("BatchNorm", "batch_norm_param { use_global_stats: true }", top="n")
                   + scale.replace('name: "n"', 'name: "y"') + layer("Power", "", top, "z"))
    net.params["n"][2].data[...] = net.params["n"][1].data[...] = 1
    net.blobs["x"].data[...] = 1
    for _ in range(3):
        net.run_forward(keep_blobs=False)
        net.blobs["z"].diff[...] = 1
        net.run_backward(keep_blobs=False)
    factor, bias = (blob.diff.ravel()[0] for blob in net.params["y"])
    count = np.prod(dims) / net.params["y"][1].count
    assert factor == pytest.approx(count * (3 if adds else 1), rel=1e-4)
    assert bias == pytest.approx(3 * count)


# ------------------------------------------------------------ the command line
@pytest.mark.parametrize("word", ["-help", "--help", "-helpshort", "-h"])
def test_help_as_gflags_spells_it(capsys, word):
    with pytest.raises(SystemExit) as ended:
        command.main([word])
    assert ended.value.code == 0
    assert "-snapshot" in capsys.readouterr().out


def test_numbers_of_flags():
    for text, number in (("0x10", 16), ("010", 10), ("-3", -3)):
        assert command._integer(types.SimpleNamespace(iterations=text), "iterations") == number
    with pytest.raises(caffe.CaffeError, match="-iterations is 'xy', it must be a whole number"):
        command._integer(types.SimpleNamespace(iterations="xy"), "iterations")


def test_flags_from_files_and_from_the_environment(tmp_path, monkeypatch):
    (tmp_path / "a").write_text(f"# our flags\n-model=m.prototxt\n\n  --iterations=3\n-flagfile={tmp_path}/b\n")
    (tmp_path / "b").write_text("-phase=TEST\n")
    monkeypatch.setenv("FLAGS_level", "2")
    words = ["time", f"--flagfile={tmp_path}/a", "-tryfromenv=level,stage", "-weights", "w", "-flagfile", f"{tmp_path}/b"]
    assert [*command._expanded(words)] == [
        "time", "-model=m.prototxt", "--iterations=3", "-phase=TEST", "-level=2", "-weights", "w", "-phase=TEST"]


def test_a_file_of_flags_that_is_not_there_or_reads_itself_is_told_in_one_line(tmp_path, capsys):
    (tmp_path / "a").write_text(f"-flagfile={tmp_path}/a")
    for name, fault in (("none", "-flagfile: "), ("a", "nested too deeply")):
        assert command.main(["train", f"-flagfile={tmp_path}/{name}", "-undefok=x"]) == 1
        out = capsys.readouterr().err
        assert out.startswith(f"error: {fault}")
        assert out.count("\n") == 1
