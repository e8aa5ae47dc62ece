"""Nets written in Python."""

import pytest
from google.protobuf import text_format

import torchcaffe as caffe
from torchcaffe import net_spec
from torchcaffe import params as P
from torchcaffe.net_spec import layers as L
from torchcaffe.proto import caffe_pb2 as pb


def parse(text):
    return text_format.Parse(text, pb.NetParameter())


def named():
    n = caffe.NetSpec()
    n.data, n.label = L.Data(source="db", backend=P.Data.LMDB, batch_size=4, ntop=2, include={"phase": caffe.TRAIN},
                             transform_param={"mean_value": [1, 2, 3], "mirror": True})
    n.conv1 = L.Convolution(n.data, num_output=8, kernel_size=3, pad=[1, 2], param=[{"lr_mult": 1}, {"lr_mult": 2}],
                            weight_filler={"type": "msra"})
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    n.pool1 = L.Pooling(n.relu1, pool=P.Pooling.MAX, kernel_size=2, stride=2)
    n["fc/8"] = L.InnerProduct(n.pool1, num_output=3, name="score")
    n.loss = L.SoftmaxWithLoss(n["fc/8"], n.label, loss_weight=2, loss_param={"ignore_label": 0})
    n.quiet = L.Silence(n.label, ntop=0)
    return n


NAMED = """
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  transform_param { mean_value: 1 mean_value: 2 mean_value: 3 mirror: true }
  data_param { source: "db" backend: LMDB batch_size: 4 } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" param { lr_mult: 1 } param { lr_mult: 2 }
  convolution_param { num_output: 8 kernel_size: 3 pad: 1 pad: 2 weight_filler { type: "msra" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "score" type: "InnerProduct" bottom: "pool1" top: "fc/8" inner_product_param { num_output: 3 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc/8" bottom: "label" top: "loss" loss_weight: 2
  loss_param { ignore_label: 0 } }
layer { name: "quiet" type: "Silence" bottom: "label" }
"""


def test_a_named_net():
    assert named().to_proto() == parse(NAMED)


def test_tops_are_in_order():
    n = named()
    assert list(n.tops) == ["data", "label", "conv1", "relu1", "pool1", "fc/8", "loss", "quiet"]
    assert n["conv1"] is n.conv1
    assert hasattr(n, "conv1")
    assert not hasattr(n, "conv9")


def test_made_up_names():
    data = L.DummyData(shape={"dim": [2, 3, 4, 4]})
    a = L.Convolution(data, num_output=2, kernel_size=1)
    b = L.ReLU(L.Convolution(a, num_output=2, kernel_size=1), in_place=True)
    total = L.Eltwise(a, b)
    expected = parse("""
      layer { name: "DummyData1" type: "DummyData" top: "DummyData1" dummy_data_param { shape { dim: 2 dim: 3 dim: 4 dim: 4 } } }
      layer { name: "Convolution1" type: "Convolution" bottom: "DummyData1" top: "Convolution1"
        convolution_param { num_output: 2 kernel_size: 1 } }
      layer { name: "Convolution2" type: "Convolution" bottom: "Convolution1" top: "Convolution2"
        convolution_param { num_output: 2 kernel_size: 1 } }
      layer { name: "ReLU1" type: "ReLU" bottom: "Convolution2" top: "Convolution2" }
      layer { name: "Eltwise1" type: "Eltwise" bottom: "Convolution1" bottom: "Convolution2" top: "Eltwise1" }""")
    assert total.to_proto() == expected
    assert caffe.to_proto(total) == expected
    assert total.fn.to_proto() == expected
    assert caffe.to_proto(a, total) == expected


def test_only_what_is_needed_is_written():
    n = named()
    assert [layer.name for layer in n.pool1.to_proto().layer] == ["Data1", "Convolution1", "ReLU1", "Pooling1"]


def test_a_net_of_it_runs(make_net):
    n = caffe.NetSpec()
    n.x = L.Input(shape={"dim": [2, 3]})
    n.y = L.InnerProduct(n.x, num_output=4)
    net = make_net(str(n.to_proto()), caffe.TEST)
    assert net.forward()["y"].shape == (2, 4)
    from torchcaffe import layers  # the package of the engine by now
    assert layers.ReLU(n.x).to_proto().layer[1].type == "ReLU"


def test_inputs_must_be_tops():
    two = L.DummyData(ntop=2)
    with pytest.raises(TypeError, match=r"^Silence input 0 is not a Top \(type is <class 'tuple'>\)$"):
        L.Silence(two, ntop=0)
    with pytest.raises(TypeError, match="data is to be one top"):
        caffe.NetSpec().data = two


WRONG = [
    ({"kernel": 3}, "kernel=3: no such field in the layer or its convolution_param"),
    ({"num_output": "four"}, "num_output='four'"),
    ({"weight_filler": {"typ": "msra"}}, "FillerParameter has no field 'typ'"),
    ({"param": [{"lr_mul": 1}]}, "ParamSpec has no field 'lr_mul'"),
    ({"loss_param": 3}, "loss_param=3"),
]


@pytest.mark.parametrize(("fields", "expected"), WRONG)
def test_wrong_fields_name_the_layer(fields, expected):
    n = caffe.NetSpec()
    n.x = L.Input(shape={"dim": 1})
    n.conv = L.Convolution(n.x, **fields)
    with pytest.raises(caffe.CaffeError) as caught:
        n.to_proto()
    assert str(caught.value).startswith("layer 'conv' (Convolution): ")
    assert expected in str(caught.value)


def test_wrong_enum_values():
    with pytest.raises(AttributeError):
        _ = P.Pooling.MEAN
    with pytest.raises(AttributeError):
        _ = P.Poling


def test_layer_types_and_their_fields():
    names = net_spec.param_name_dict()
    assert (names["Convolution"], names["LRN"], names["ReLU"]) == ("convolution", "lrn", "relu")
