"""Small nets in the manner of the classic ones, written with NetSpec: for comparing whole nets where no model files are."""

from typing import Any, Dict

from torchcaffe import layers as L
from torchcaffe import net_spec
from torchcaffe import params as P

MSRA = {"type": "msra"}
RATES = [{"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 2, "decay_mult": 0}]


def _start(trains: bool, *shape: int) -> Any:
    """Return a NetSpec with `data`, and with `label` for a net that trains."""
    n = net_spec.NetSpec()
    if trains:
        source = {"source": "unused", "batch_size": 4, "backend": P.Data.LMDB}
        n.data, n.label = L.Data(ntop=2, data_param=source, transform_param={"crop_size": shape[-1], "mirror": True})
    else:
        n.data = L.Input(shape={"dim": [2, *shape]})
    return n


def _end(n: Any, trains: bool, scores: Any) -> str:
    if trains:
        n.loss = L.SoftmaxWithLoss(scores, n.label)
        n.accuracy = L.Accuracy(scores, n.label, include={"phase": 1})
    else:
        n.prob = L.Softmax(scores)
    return str(n.to_proto())


def _conv(bottom: Any, outputs: int, size: int, **more: Any) -> Any:
    return L.Convolution(bottom, num_output=outputs, kernel_size=size, weight_filler=MSRA, param=RATES, **more)


def _inner(bottom: Any, outputs: int) -> Any:
    return L.InnerProduct(bottom, num_output=outputs, weight_filler=MSRA, param=RATES)


def _pool(bottom: Any, size: int, stride: int, **more: Any) -> Any:
    return L.Pooling(bottom, kernel_size=size, stride=stride, **more)


def _relu(bottom: Any) -> Any:
    return L.ReLU(bottom, in_place=True)


def lenet(trains: bool) -> str:
    """Two convolutions with pooling between, two inner products."""
    n = _start(trains, 3, 20, 20)
    n.conv1 = _conv(n.data, 8, 5)
    n.pool1 = _pool(n.conv1, 2, 2)
    n.conv2 = _conv(n.pool1, 12, 3)
    n.pool2 = _pool(n.conv2, 2, 2)
    n.ip1 = _inner(n.pool2, 30)
    n.relu1 = _relu(n.ip1)
    n.ip2 = _inner(n.relu1, 10)
    return _end(n, trains, n.ip2)


def cifar(trains: bool) -> str:
    """Overlapping pooling of both kinds, normalization within channels."""
    n = _start(trains, 3, 24, 24)
    n.conv1 = _conv(n.data, 8, 5, pad=2)
    n.pool1 = _pool(n.conv1, 3, 2)
    n.relu1 = _relu(n.pool1)
    n.norm1 = L.LRN(n.relu1, local_size=3, alpha=5e-5, beta=0.75, norm_region=P.LRN.WITHIN_CHANNEL)
    n.conv2 = _conv(n.norm1, 12, 5, pad=2)
    n.relu2 = _relu(n.conv2)
    n.pool2 = _pool(n.relu2, 3, 2, pool=P.Pooling.AVE)
    n.ip1 = _inner(n.pool2, 10)
    return _end(n, trains, n.ip1)


def caffenet(trains: bool, last: str = "fc8") -> str:
    """Strided first convolution, normalization across channels, groups, dropout; `last` names the scores."""
    n = _start(trains, 3, 67, 67)
    n.conv1 = _conv(n.data, 16, 11, stride=4)
    n.relu1 = _relu(n.conv1)
    n.pool1 = _pool(n.relu1, 3, 2)
    n.norm1 = L.LRN(n.pool1, local_size=5, alpha=1e-4, beta=0.75)
    n.conv2 = _conv(n.norm1, 24, 5, pad=2, group=2)
    n.relu2 = _relu(n.conv2)
    n.pool2 = _pool(n.relu2, 3, 2)
    n.fc6 = _inner(n.pool2, 64)
    n.relu6 = _relu(n.fc6)
    n.drop6 = L.Dropout(n.relu6, dropout_ratio=0.5, in_place=True)
    n[last] = _inner(n.drop6, 20)
    return str(n.to_proto()) if last != "fc8" else _end(n, trains, n[last])


def inception(trains: bool) -> str:
    """One block of four ways, joined."""
    n = _start(trains, 3, 32, 32)
    n.conv1 = _conv(n.data, 16, 7, pad=3, stride=2)
    n.relu1 = _relu(n.conv1)
    n.pool1 = _pool(n.relu1, 3, 2)
    n.one = _relu(_conv(n.pool1, 8, 1))
    n.three = _relu(_conv(_relu(_conv(n.pool1, 8, 1)), 12, 3, pad=1))
    n.five = _relu(_conv(_relu(_conv(n.pool1, 4, 1)), 6, 5, pad=2))
    n.proj = _relu(_conv(_pool(n.pool1, 3, 1, pad=1), 6, 1))
    n.output = L.Concat(n.one, n.three, n.five, n.proj)
    n.pool5 = _pool(n.output, 8, 1, pool=P.Pooling.AVE)
    n.classifier = _inner(n.pool5, 10)
    return _end(n, trains, n.classifier)


def vgg_cam() -> str:
    """Return a deploy net in the V1 syntax: blocks of 3 x 3 convolutions, grouped map layer, mean of the map."""
    text = 'name: "cam" input: "data" input_dim: 2 input_dim: 3 input_dim: 48 input_dim: 48\n'
    bottom = "data"
    for block, (count, width) in enumerate([(2, 8), (2, 12), (3, 16)], 1):
        for i in range(1, count + 1):
            top = f"conv{block}_{i}"
            text += _v1(top, "CONVOLUTION", bottom, top, f"convolution_param {{ num_output: {width} pad: 1 kernel_size: 3 }}")
            text += _v1(f"relu{block}_{i}", "RELU", top, top)
            bottom = top
        text += _v1(f"pool{block}", "POOLING", bottom, f"pool{block}", "pooling_param { pool: MAX kernel_size: 2 stride: 2 }")
        bottom = f"pool{block}"
    text += _v1("CAM_conv", "CONVOLUTION", bottom, "CAM_conv",
                "blobs_lr: 1 blobs_lr: 2 convolution_param { num_output: 32 pad: 1 kernel_size: 3 group: 2 }")
    text += _v1("CAM_relu", "RELU", "CAM_conv", "CAM_conv")
    text += _v1("CAM_pool", "POOLING", "CAM_conv", "CAM_pool", "pooling_param { pool: AVE kernel_size: 6 stride: 6 }")
    text += _v1("CAM_fc", "INNER_PRODUCT", "CAM_pool", "CAM_fc", "inner_product_param { num_output: 20 }")
    return text + _v1("prob", "SOFTMAX", "CAM_fc", "prob")


def _v1(name: str, kind: str, bottom: str, top: str, more: str = "") -> str:
    return f'layers {{ name: "{name}" type: {kind} bottom: "{bottom}" top: "{top}" {more} }}\n'


def write_all() -> Dict[str, str]:
    """Return the texts of all nets by file name."""
    made = {f"{make.__name__}{'_train' * trains}": make(trains)
            for make in (lenet, cifar, caffenet, inception) for trains in (False, True)}
    made["rcnn"] = caffenet(False, "fc-rcnn")
    made["vgg_cam"] = vgg_cam()
    return made
