"""GoogLeNet with the public ImageNet weights names the objects of two photographs, in either engine.

The weights (53 MB) are not part of the repository: `make weights INIT=data/weights/bvlc_googlenet.caffemodel` fetches them, and
`python -m pycam weights import` makes them of arrays.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "data" / "weights" / "bvlc_googlenet.caffemodel"
CAFFE = Path(os.environ.get("SKIN_CAFFE") or ROOT / ".caffe" / "bin" / "python3")
pytestmark = pytest.mark.skipif(not WEIGHTS.is_file(), reason=f"no {WEIGHTS.name} in data/weights")
OBJECTS = {"chelsea": {281, 282, 285}, "coffee": {967}}  # tabby, tiger cat, Egyptian cat; espresso
PROGRAM = """
import json, sys, cv2, numpy as np
import skimage.data
from pycam import engine
from pycam.preprocess import to_blob
caffe = engine.load(sys.argv[1])
net = engine.deploy_net(caffe, *map(__import__("pathlib").Path, sys.argv[2:4]))
found = {}
for name in ("chelsea", "coffee"):
    picture = getattr(skimage.data, name)()[..., ::-1]
    side = min(picture.shape[:2])
    y, x = ((length - side) // 2 for length in picture.shape[:2])
    square = cv2.resize(np.ascontiguousarray(picture[y:y + side, x:x + side]), (224, 224), interpolation=cv2.INTER_AREA)
    net.blobs["data"].data[...] = to_blob([square])
    probs = net.forward()["prob"].ravel()
    found[name] = [int(probs.argmax()), float(probs.max())]
print(json.dumps(found))
"""


def name_objects(python, engine):
    words = [str(python), "-c", PROGRAM, engine, "prototxt/googlenet_deploy.prototxt", str(WEIGHTS)]
    run = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout.splitlines()[-1])


def test_torchcaffe_names_the_objects():
    for name, (number, probability) in name_objects(sys.executable, "torch").items():
        assert number in OBJECTS[name]
        assert probability > 0.4


@pytest.mark.caffe
@pytest.mark.skipif(not CAFFE.is_file(), reason=f"no real Caffe: {CAFFE} is missing (SKIN_CAFFE names another)")
def test_both_engines_are_as_sure():
    ours, theirs = name_objects(sys.executable, "torch"), name_objects(CAFFE, "caffe")
    for name in OBJECTS:
        assert ours[name][0] == theirs[name][0]
        assert ours[name][1] == pytest.approx(theirs[name][1], abs=1e-4)
