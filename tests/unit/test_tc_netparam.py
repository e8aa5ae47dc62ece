"""Reading nets: old syntax, NetState rules, splits."""

import pytest
from google.protobuf import text_format

from torchcaffe.errors import CaffeError
from torchcaffe.netparam import blob_array, filter_net, insert_splits, read_net, read_solver, upgrade_net
from torchcaffe.proto import caffe_pb2 as pb


def parse(text, message=pb.NetParameter):
    return text_format.Parse(text, message())


UPGRADES = {
    "v1 types and rates": (
        """layers { name: "c" type: CONVOLUTION bottom: "x" top: "c" blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0
             param: "w" param: "b" convolution_param { num_output: 4 } include { phase: TRAIN } loss_weight: 0 }
           layers { name: "l" type: SOFTMAX_LOSS bottom: "c" top: "l" }
           layers { name: "r" type: RELU bottom: "c" top: "r" } layers { name: "i" type: INNER_PRODUCT }
           layers { name: "a" type: ACCURACY }  layers { name: "d" type: DECONVOLUTION }""",
        """layer { name: "c" type: "Convolution" bottom: "x" top: "c" param { name: "w" lr_mult: 1 decay_mult: 1 }
             param { name: "b" lr_mult: 2 decay_mult: 0 } convolution_param { num_output: 4 } include { phase: TRAIN }
             loss_weight: 0 }
           layer { name: "l" type: "SoftmaxWithLoss" bottom: "c" top: "l" }
           layer { name: "r" type: "ReLU" bottom: "c" top: "r" } layer { name: "i" type: "InnerProduct" }
           layer { name: "a" type: "Accuracy" } layer { name: "d" type: "Deconvolution" }""",
    ),
    "input_dim": (
        'input: "a" input: "b" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 9 input_dim: 1 input_dim: 1 input_dim: 1 '
        'input_dim: 2 layer { name: "s" type: "Silence" bottom: "a" bottom: "b" }',
        """layer { name: "input" type: "Input" top: "a" top: "b" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 9 }
             shape { dim: 1 dim: 1 dim: 1 dim: 2 } } } layer { name: "s" type: "Silence" bottom: "a" bottom: "b" }""",
    ),
    "input_shape": (
        'input: "a" input_shape { dim: 5 } layer { name: "s" type: "Silence" bottom: "a" }',
        """layer { name: "input" type: "Input" top: "a" input_param { shape { dim: 5 } } }
           layer { name: "s" type: "Silence" bottom: "a" }""",
    ),
    "transformation": (
        'layers { name: "d" type: DATA data_param { source: "s" scale: 0.5 mirror: true crop_size: 7 mean_file: "m" } }',
        """layer { name: "d" type: "Data" data_param { source: "s" }
             transform_param { scale: 0.5 mirror: true crop_size: 7 mean_file: "m" } }""",
    ),
    "transformation in the new syntax, which Caffe ignores": (
        'layer { name: "d" type: "ImageData" image_data_param { source: "s" scale: 0.5 mirror: true } }',
        'layer { name: "d" type: "ImageData" image_data_param { source: "s" } }',
    ),
    "batch norm": (
        'layer { name: "n" type: "BatchNorm" param { lr_mult: 1 } param { decay_mult: 1 } param { } }',
        """layer { name: "n" type: "BatchNorm" param { lr_mult: 0 decay_mult: 0 } param { lr_mult: 0 decay_mult: 0 }
             param { lr_mult: 0 decay_mult: 0 } }""",
    ),
}


@pytest.mark.parametrize("name", UPGRADES)
def test_old_syntax_becomes_the_current_one(name):
    old, new = UPGRADES[name]
    assert upgrade_net(parse(old), "net") == parse(new)


@pytest.mark.parametrize(("old", "new"), [("NESTEROV", "Nesterov"), ("SGD", "SGD"), ("ADADELTA", "AdaDelta")])
def test_old_solver_type(tmp_path, old, new):
    path = tmp_path / "solver.prototxt"
    path.write_text(f"solver_type: {old} base_lr: 1")
    solver = read_solver(str(path))
    assert (solver.type, solver.HasField("solver_type")) == (new, False)


REFUSED = [
    ("layers { layer { name: 'a' type: 'conv' } }", "uses the V0 syntax of 2013 .* upgrade_net_proto_text"),
    ("layer { name: 'a' } layers { name: 'b' type: RELU }", "both `layer` and the old `layers`"),
    ("input: 'a' input_dim: 1 input_dim: 2 layer { name: 'a' }", "shapes"),
    ("input: 'a' input: 'b' input_shape { dim: 1 } layer { name: 'a' }", "2 inputs, but shapes for 1"),
    ("layer { nam: 'a' }", 'no field named "nam"'),
    ("layer { pooling_param { pool: MEAN } }", "MEAN"),
    ("layer {", "Expected|expected|Unbalanced"),
    ("", "no layers"),
]


@pytest.mark.parametrize(("text", "expected"), REFUSED)
def test_refused_texts_name_file_and_fault(tmp_path, text, expected):
    path = tmp_path / "bad.prototxt"
    path.write_text(text)
    with pytest.raises(CaffeError, match=expected) as caught:
        read_net(str(path))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


RULES = [  # rules of one layer, state of the net, kept?
    ("", "phase: TEST", True),
    ("include { phase: TRAIN }", "phase: TRAIN", True),
    ("include { phase: TRAIN }", "phase: TEST", False),
    ("exclude { phase: TRAIN }", "phase: TEST", True),
    ("exclude { phase: TRAIN }", "phase: TRAIN", False),
    ("include { min_level: 2 }", "level: 1", False),
    ("include { min_level: 2 }", "level: 2", True),
    ("include { max_level: 2 }", "level: 3", False),
    ("include { stage: 'a' stage: 'b' }", "stage: 'a'", False),
    ("include { stage: 'a' stage: 'b' }", "stage: 'b' stage: 'c' stage: 'a'", True),
    ("include { stage: 'a' } include { stage: 'b' }", "stage: 'b'", True),
    ("include { not_stage: 'a' }", "stage: 'b'", True),
    ("include { not_stage: 'a' }", "stage: 'a'", False),
    ("include { phase: TRAIN stage: 'a' }", "phase: TEST stage: 'a'", False),
    ("exclude { stage: 'a' } exclude { stage: 'b' }", "stage: 'b'", False),
]


@pytest.mark.parametrize(("rules", "state", "kept"), RULES)
def test_state_rules(rules, state, kept):
    net = parse(f"state {{ {state} }} layer {{ name: 'l' {rules} }}")
    assert [layer.name for layer in filter_net(net).layer] == ["l"] * kept


def test_include_and_exclude_together_are_refused():
    with pytest.raises(CaffeError, match="layer 'l': give either include or exclude"):
        filter_net(parse("layer { name: 'l' include { } exclude { } }"))


def layers_of(net):
    return [f"{la.name}: {','.join(la.bottom)} > {','.join(la.top)}" + (f" * {la.loss_weight[0]:g}" if la.loss_weight else "")
            for la in net.layer]


SPLITS = {
    "one reader": ("layer { name: 'd' top: 'x' } layer { name: 'a' bottom: 'x' top: 'y' }", ["d:  > x", "a: x > y"]),
    "two readers": (
        "layer { name: 'd' top: 'x' } layer { name: 'a' bottom: 'x' top: 'y' } layer { name: 'b' bottom: 'x' top: 'z' }",
        ["d:  > x", "x_d_0_split: x > x_d_0_split_0,x_d_0_split_1", "a: x_d_0_split_0 > y", "b: x_d_0_split_1 > z"],
    ),
    "in place": (  # the first reader is the layer that overwrites; what comes after reads its result
        "layer { name: 'd' top: 'x' } layer { name: 'r' bottom: 'x' top: 'x' } layer { name: 'a' bottom: 'x' top: 'y' } "
        "layer { name: 'b' bottom: 'x' top: 'z' }",
        ["d:  > x", "r: x > x", "x_r_0_split: x > x_r_0_split_0,x_r_0_split_1", "a: x_r_0_split_0 > y",
         "b: x_r_0_split_1 > z"],
    ),
    "loss that is read": (  # the loss counts as a reader and moves to the split
        "layer { name: 'd' top: 'x' } layer { name: 'l' bottom: 'x' top: 'y' loss_weight: 3 } "
        "layer { name: 'a' bottom: 'y' top: 'z' }",
        ["d:  > x", "l: x > y", "y_l_0_split: y > y_l_0_split_0,y_l_0_split_1 * 3", "a: y_l_0_split_1 > z"],
    ),
    "second top": (
        "layer { name: 'd' top: 'x' top: 'w' } layer { name: 'a' bottom: 'w' bottom: 'w' top: 'y' }",
        ["d:  > x,w", "w_d_1_split: w > w_d_1_split_0,w_d_1_split_1", "a: w_d_1_split_0,w_d_1_split_1 > y"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SPLITS)
def test_splits(name):
    text, expected = SPLITS[name]
    assert layers_of(insert_splits(parse(text))) == expected


def test_a_blob_nobody_made_is_named():
    with pytest.raises(CaffeError, match="layer 'a': unknown bottom blob 'q'"):
        insert_splits(parse("layer { name: 'd' top: 'x' } layer { name: 'a' bottom: 'q' }"))


BLOBS = [
    ("shape { dim: 2 dim: 1 } data: 1 data: 2", (2, 1)),
    ("num: 1 channels: 2 height: 1 width: 1 data: 1 data: 2", (1, 2, 1, 1)),
    ("num: 1 channels: 2 height: 1 width: 1 shape { dim: 2 } data: 1 data: 2", (1, 2, 1, 1)),  # the old form wins
    ("shape { dim: 2 } double_data: 1 double_data: 2", (2,)),
    ("data: 5", ()),
]


@pytest.mark.parametrize(("text", "shape"), BLOBS)
def test_blob_protos(text, shape):
    assert blob_array(parse(text, pb.BlobProto)).shape == shape


@pytest.mark.parametrize("text", ["shape { dim: 3 } data: 1", "data: 1 data: 2", "shape { dim: 1000000 dim: 1000 }"])
def test_blob_protos_of_the_wrong_length(text):
    with pytest.raises(CaffeError, match="holds"):
        blob_array(parse(text, pb.BlobProto))


@pytest.mark.parametrize("text", ["dim: 1 " * 71, "dim: -1 dim: -1", "dim: -1", "dim: 0 dim: 1000000 dim: 1000000"])
def test_blob_protos_of_shapes_that_caffe_knows_not(text):
    with pytest.raises(CaffeError, match="expected at most 32 axes"):
        blob_array(parse(f"shape {{ {text} }} data: 1", pb.BlobProto))


@pytest.mark.parametrize("where", ["name: 'a\xff'", "state { phase: T\xff }", "layers { type: \xff }", "\xff: 1"])
def test_bytes_that_are_no_text_are_told(tmp_path, where):
    (tmp_path / "net.prototxt").write_bytes(where.encode("latin-1"))
    with pytest.raises(CaffeError, match=r"net\.prototxt: "):
        read_net(str(tmp_path / "net.prototxt"))
