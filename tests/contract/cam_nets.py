"""Small nets with the structure of published ones: what they end in, their syntax, their windows; few channels."""
import numpy as np

INPUT = 'input: "data" input_dim: 10 input_dim: 3 input_dim: {0} input_dim: {0}\n'


def save(caffe, prototxt, path, seed=4):
    """Write weights drawn by numpy, the same on every engine, under which values keep their size from layer to layer."""
    net, random = caffe.Net(str(prototxt), caffe.TEST), np.random.RandomState(seed)
    for layer, blobs in net.params.items():
        for blob in blobs:
            shape = blob.data.shape
            blob.data[...] = 1 if layer in ("bn", "scale") else random.randn(*shape) * np.sqrt(2 / max(1, np.prod(shape[1:])))
    list(net.params.values())[-1][0].data[...] *= 0.02  # so that no class is certain
    net.save(str(path))
    return path


def v1(name, kind, bottom, top=None, more=""):
    """Return a layer in the syntax of 2014."""
    return f'layers {{ name: "{name}" type: {kind} bottom: "{bottom}" top: "{top or name}" {more} }}\n'


def now(name, kind, bottom, top=None, more=""):
    """Return a layer in the current syntax; several bottoms are divided by spaces."""
    bottoms = " ".join(f'bottom: "{one}"' for one in bottom.split())
    return f'layer {{ name: "{name}" type: "{kind}" {bottoms} top: "{top or name}" {more} }}\n'


def head(average, classifier="fc", outputs=5):
    """Return classifier and softmax in the current syntax."""
    weights = window("inner_product", num_output=outputs)
    return now(classifier, "InnerProduct", average, more=weights) + now("prob", "Softmax", classifier)


def v1_head(average, classifier, outputs=7):
    weights = window("inner_product", num_output=outputs)
    return v1(classifier, "INNER_PRODUCT", average, more=weights) + v1("prob", "SOFTMAX", classifier)


def window(kind, **fields):
    return f"{kind}_param {{ {' '.join(f'{name}: {value}' for name, value in fields.items())} }}"


def v1_conv(name, bottom, **fields):
    return v1(name, "CONVOLUTION", bottom, more=window("convolution", **fields)) + v1(f"relu_{name}", "RELU", name, name)


def now_conv(name, bottom, **fields):
    return now(name, "Convolution", bottom, more=window("convolution", **fields)) + now(f"{name}/relu", "ReLU", name, name)


def vgg16_cam():
    """VGG16-CAM: V1, in-place ReLUs, two groups, a fixed 14 x 14 average, dropout in place."""
    text, below = 'name: "twin"\n' + INPUT.format(224), "data"
    for block, count in enumerate((2, 2, 3, 3, 3), 1):
        for i in range(1, count + 1):
            text += v1_conv(f"conv{block}_{i}", below, num_output=4 * block, pad=1, kernel_size=3)
            below = f"conv{block}_{i}"
        if block < 5:
            text += v1(f"pool{block}", "POOLING", below, more=window("pooling", pool="MAX", kernel_size=2, stride=2))
            below = f"pool{block}"
    text += v1_conv("CAM_conv", below, num_output=24, pad=1, kernel_size=3, group=2)
    text += v1("CAM_pool", "POOLING", "CAM_conv", more=window("pooling", pool="AVE", kernel_size=14, stride=14))
    text += v1("CAM_dropout", "DROPOUT", "CAM_pool", "CAM_pool", window("dropout", dropout_ratio=0.5))
    return text + v1_head("CAM_pool", "CAM_fc")


def alexnet(below_the_end):
    """AlexNet's five convolutions in V1: an input of 227, strides of 4, LRN, groups."""
    text = INPUT.format(227) + v1_conv("conv1", "data", num_output=8, kernel_size=11, stride=4)
    text += v1("pool1", "POOLING", "conv1", more=window("pooling", pool="MAX", kernel_size=3, stride=2))
    text += v1("norm1", "LRN", "pool1", more=window("lrn", local_size=5, alpha=0.0001, beta=0.75))
    text += v1_conv("conv2", "norm1", num_output=12, pad=2, kernel_size=5, group=2)
    text += v1("pool2", "POOLING", "conv2", more=window("pooling", pool="MAX", kernel_size=3, stride=2))
    for i, below in ((3, "pool2"), (4, "conv3")):
        text += v1_conv(f"conv{i}", below, num_output=12, pad=1, kernel_size=3)
    return text + v1_conv("conv5", "conv4", num_output=12, pad=1, kernel_size=3, group=2) + below_the_end


def alexnet_cam():
    """AlexNet-CAM: a pooling that does not step, two more convolutions, an 11 x 11 average, no CAM_ names."""
    text = v1("pool5", "POOLING", "conv5", more=window("pooling", pool="MAX", kernel_size=3, stride=1))
    text += v1_conv("conv6", "pool5", num_output=16, pad=1, kernel_size=3, group=2)
    text += v1_conv("conv7", "conv6", num_output=16, pad=1, kernel_size=3, group=2)
    text += v1("pool8_global", "POOLING", "conv7", more=window("pooling", pool="AVE", kernel_size=11, stride=11))
    return alexnet(text + v1_head("pool8_global", "fc9"))


def alexnet_dense():
    """AlexNet as it was: two wide layers between the last convolution and the classifier."""
    text = v1("pool5", "POOLING", "conv5", more=window("pooling", pool="MAX", kernel_size=3, stride=2))
    text += v1("fc6", "INNER_PRODUCT", "pool5", more=window("inner_product", num_output=20)) + v1("relu6", "RELU", "fc6", "fc6")
    return alexnet(text + v1_head("fc6", "fc8", 5))


def inception(name, bottom):
    """Four branches that look at the same places, joined."""
    text = now_conv(f"{name}/1x1", bottom, num_output=4, kernel_size=1)
    text += now_conv(f"{name}/3x3_reduce", bottom, num_output=3, kernel_size=1)
    text += now_conv(f"{name}/3x3", f"{name}/3x3_reduce", num_output=4, pad=1, kernel_size=3)
    text += now_conv(f"{name}/5x5", bottom, num_output=3, pad=2, kernel_size=5)
    text += now(f"{name}/pool", "Pooling", bottom, more=window("pooling", pool="MAX", kernel_size=3, stride=1, pad=1))
    text += now_conv(f"{name}/pool_proj", f"{name}/pool", num_output=3, kernel_size=1)
    return text + now(f"{name}/output", "Concat", " ".join(f"{name}/{branch}" for branch in ("1x1", "3x3", "5x5", "pool_proj")))


def googlenet_cam():
    """GoogLeNet-CAM: the current syntax with input_dim, force_backward, inceptions, names with slashes."""
    below = "conv1/7x7_s2"
    text = INPUT.format(224) + "force_backward: true\n" + now_conv(below, "data", num_output=6, pad=3, kernel_size=7, stride=2)
    for i in range(1, 4):
        text += now(f"pool{i}/3x3_s2", "Pooling", below, more=window("pooling", pool="MAX", kernel_size=3, stride=2))
        text += inception(f"inception_{i}a", f"pool{i}/3x3_s2")
        below = f"inception_{i}a/output"
    text += now_conv("CAM_conv", below, num_output=12, pad=1, kernel_size=3, group=2)
    text += now("CAM_pool", "Pooling", "CAM_conv", more=window("pooling", pool="AVE", kernel_size=14, stride=14))
    return text + head("CAM_pool", "CAM_fc", 7)


def stem():
    return INPUT.format(64) + now_conv("conv1", "data", num_output=6, pad=1, kernel_size=3, stride=4)


def squeezenet():
    """SqueezeNet's end: the last convolution has a channel for each class, which is averaged and goes to the softmax."""
    text = stem() + now_conv("conv10", "conv1", num_output=5, kernel_size=1)
    text += now("pool10", "Pooling", "conv10", more=window("pooling", pool="AVE", global_pooling="true"))
    return text + now("prob", "Softmax", "pool10")


def mobilenet():
    """MobileNet's end: a convolution of 1 x 1 on the average is the classifier; BatchNorm and Scale before it."""
    text = stem() + now("bn", "BatchNorm", "conv1") + now("scale", "Scale", "bn", "bn", "scale_param { bias_term: true }")
    text += now("pool6", "Pooling", "bn", more=window("pooling", pool="AVE", global_pooling="true"))
    text += now("fc7", "Convolution", "pool6", more=window("convolution", num_output=5, kernel_size=1))
    return text + now("prob", "Softmax", "fc7")


def resnet():
    """ResNet's end: a sum of two branches, its ReLU under another name, a global average."""
    text = stem() + now("branch", "Convolution", "conv1", more=window("convolution", num_output=6, pad=1, kernel_size=3))
    text += now("res", "Eltwise", "conv1 branch") + now("res_relu", "ReLU", "res", "res5c")
    text += now("pool5", "Pooling", "res5c", more=window("pooling", pool="AVE", kernel_size=16, stride=1))
    return text + head("pool5", "fc1000")


WITH_AVERAGE = {  # net -> features, classifier, and where their cells look: first, pitch, side of the input
    vgg16_cam: ("CAM_conv", "CAM_fc", (7.5, 16, 224)), alexnet_cam: ("conv7", "fc9", (33, 16, 227)),
    googlenet_cam: ("CAM_conv", "CAM_fc", (14, 16, 224)), squeezenet: ("conv10", "", (0, 4, 64)),
    mobilenet: ("bn", "fc7", (0, 4, 64)), resnet: ("res5c", "fc1000", (0, 4, 64))}
