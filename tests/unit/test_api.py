"""`import pycam`: light, complete, the same results as the commands; every example of its docstrings and of the notebook runs."""
import ast
import doctest
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pycam
import torchcaffe
from pycam import api, drawing, forward
from pycam.cells import lay
from pycam.errors import CamError
from pycam.region_rule import RegionRule
from tests.contract import cam_nets
from tools import api_page

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "models"  # trained networks; until they are there, the tests draw weights
NARROW = ROOT / "prototxt" / "vgg_gap_narrow_deploy.prototxt"


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Return a folder with the example pictures and two networks in ``models``."""
    folder = tmp_path_factory.mktemp("work")
    shutil.copytree(ROOT / "examples", folder / "examples")
    if (MODELS / "stage2.caffemodel").is_file():
        (folder / "models").symlink_to(MODELS)
        return folder
    (folder / "models").mkdir()
    for stage in (1, 2):
        cam_nets.save(torchcaffe, NARROW, folder / "models" / f"stage{stage}.caffemodel", stage)
    return folder


@pytest.fixture(scope="module")
def net(work):
    return pycam.load_net(work / "models" / "stage1.caffemodel")


@pytest.fixture(scope="module")
def image(work):
    return pycam.read_image(work / "examples" / "ISIC_0000225.jpg")


# ---------------------------------------------------------------- the package
def test_to_import_it_is_cheap():
    program = ("import sys, pycam; assert set(pycam.__all__) <= set(dir(pycam)); "
               "print(*{'numpy', 'cv2', 'torch', 'google.protobuf', 'sklearn'} & set(sys.modules)); "
               "pycam.read_image; print(*{'torch', 'sklearn', 'matplotlib'} & set(sys.modules))")
    told = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout == "\n\n"


def test_names_are_the_same_at_run_time_and_for_type_checkers():
    tree = ast.parse((ROOT / "pycam" / "__init__.py").read_text())
    typed = [alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "api"
             for alias in node.names]
    assert typed == pycam.__all__ == api.__all__
    assert all(getattr(pycam, name) is getattr(api, name) for name in pycam.__all__)
    with pytest.raises(AttributeError, match="no attribute 'class_map'"):
        _ = pycam.class_map


def test_modules_of_the_package_do_not_take_the_places_of_its_functions():
    assert not {path.stem for path in (ROOT / "pycam").glob("*.py")} & set(pycam.__all__)


# ---------------------------------------------------------------- examples
def test_every_function_has_an_example_and_they_run(work, monkeypatch):
    monkeypatch.chdir(work)
    names, runner = {"pycam": pycam}, doctest.DocTestRunner()
    for function in api_page.functions():
        test = doctest.DocTestParser().get_doctest(function.__doc__, names, function.__name__, function.__code__.co_filename, 0)
        assert test.examples, function.__name__
        runner.run(test, clear_globs=False)
        names = test.globs
    assert runner.summarize(verbose=False).failed == 0


def test_the_page_is_made_from_the_docstrings(capsys):
    assert api_page.main(["--check"]) == 0, "python tools/api_page.py"
    assert capsys.readouterr().out == "docs/api.md: up to date\n"


def test_a_page_of_other_docstrings_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(api_page, "PAGE", tmp_path / "api.md")
    assert api_page.main(["--check"]) == 1
    assert api_page.main([]) == api_page.main(["--check"]) == 0


def test_the_notebook_runs(work, monkeypatch):
    """Its cells are plain Python, so they are run as such: a kernel would bring twenty packages more into the set-up."""
    plots = pytest.importorskip("matplotlib.pyplot")
    plots.switch_backend("Agg")
    notebook = json.loads((work / "examples" / "maps.ipynb").read_text())
    assert (notebook["nbformat"], len({cell["id"] for cell in notebook["cells"]})) == (4, len(notebook["cells"]))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    monkeypatch.chdir(work / "examples")
    names = {}
    for number, cell in enumerate(cells):
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    plots.close("all")
    assert set(names["scores"]) == {"stage1", "probs"}
    assert names["maps"].shape == (3, *names["image"].shape[:2])
    assert names["box"].cut(names["clean"]).size


# ---------------------------------------------------------------- results
def test_one_picture_and_several_give_the_same(net, image):
    other = image[:200, :150]
    probs = pycam.predict(net, [image, other])
    np.testing.assert_allclose(probs, [pycam.predict(net, image), pycam.predict(net, other)], rtol=1e-5)
    maps = pycam.class_maps(net, [image, other])
    assert [cams.shape for cams in maps] == [(3, *image.shape[:2]), (3, 200, 150)]
    np.testing.assert_allclose(maps[1], pycam.class_maps(net, other), rtol=1e-3, atol=1e-5 * np.abs(maps[1]).max())
    regions = pycam.locate(list(maps[1]))
    assert regions == [pycam.locate(cam) for cam in maps[1]]
    drawn = pycam.overlay([image, other], [maps[0][2], maps[1][2]])
    np.testing.assert_array_equal(drawn[1], pycam.overlay(other, maps[1][2]))
    np.testing.assert_array_equal(pycam.remove_hair([image, other])[1][0], pycam.remove_hair(other)[0])


def test_more_pictures_than_a_pass_takes(net, image, monkeypatch):
    monkeypatch.setattr(api.given, "BATCH", 2)
    pictures = [image[:200 + 10 * number] for number in range(5)]
    assert pycam.predict(net, pictures).shape == (5, 3)
    assert [cams.shape[1] for cams in pycam.class_maps(net, pictures, classes=[2])] == [200, 210, 220, 230, 240]


def test_colours_in_either_order_give_the_same_and_come_back_in_it(work, net, image):
    rgb = image[..., ::-1]
    np.testing.assert_array_equal(pycam.read_image(work / "examples" / "ISIC_0000225.jpg", colour="rgb"), rgb)
    np.testing.assert_array_equal(pycam.predict(net, rgb, colour="rgb"), pycam.predict(net, image))
    assert np.abs(pycam.predict(net, rgb) - pycam.predict(net, image)).max() > 1e-6
    maps = pycam.class_maps(net, image)
    np.testing.assert_array_equal(pycam.class_maps(net, rgb, colour="rgb"), maps)
    for given, same in ((pycam.overlay(rgb, maps[0], colour="rgb"), pycam.overlay(image, maps[0])),
                        (pycam.remove_hair(rgb, colour="rgb")[0], pycam.remove_hair(image)[0])):
        np.testing.assert_array_equal(given[..., ::-1], same)
    stages = pycam.load_stages(*(work / "models" / f"stage{stage}.caffemodel" for stage in (1, 2)))
    first, second = pycam.classify(stages, rgb, colour="rgb"), pycam.classify(stages, [image])[0]
    np.testing.assert_array_equal(first.clean[..., ::-1], second.clean)
    np.testing.assert_array_equal(first.probs, second.probs)


def test_maps_and_regions_are_those_of_the_pipeline(net, image):
    probs, cams = forward.predict_with_maps(net, [net.views(image, "ten")])
    np.testing.assert_array_equal(pycam.predict(net, image, views="ten"), probs[0])
    maps = pycam.class_maps(net, image, views="ten", placement="fade")
    rule = RegionRule(threshold=0.4, ground="min", placement="fade", views="ten")
    found = api.two_stages.locate(rule, cams[0], probs[0], image.shape[:2], net.grid)
    np.testing.assert_array_equal(maps[probs[0].argmax()], found.cam)
    assert pycam.locate(maps[probs[0].argmax()], threshold=0.4, ground="min") == found.region


def test_some_classes_by_name_or_number(net, image):
    maps = pycam.class_maps(net, image)
    some = pycam.class_maps(net, image, classes=["nevus", 0])
    np.testing.assert_allclose(some, maps[[2, 0]], rtol=0, atol=1e-6 * np.abs(maps).max())
    for wrong, said in (("nevi", "'nevi' is not known, did you mean nevus"), (3, "there are 3"), (-1, "there are 3")):
        with pytest.raises(CamError, match=said):
            pycam.class_maps(net, image, classes=[wrong])


def test_a_box_is_drawn(net, image):
    cam = np.abs(pycam.class_maps(net, image, classes=[0])[0])
    plain, boxed = pycam.overlay(image, cam), pycam.overlay(image, cam, box=pycam.Box(10, 20, 60, 90))
    changed = np.argwhere((plain != boxed).any(axis=2))
    assert (changed.min(axis=0) >= (9, 19)).all()
    assert (changed.max(axis=0) <= (61, 91)).all()
    assert (pycam.overlay(image, cam, top=1e9) != plain).any()


@pytest.mark.parametrize("views", ["centre", "ten"])
def test_with_its_network_a_map_is_drawn_as_on_the_sheets(net, image, views):
    maps = pycam.class_maps(net, image, views=views)
    cells = lay((10, 10), image.shape[:2], views)
    assert net.cells == (10, 10)
    expected = drawing.overlay(image, maps[0], float(maps[0].max()), cells)
    np.testing.assert_array_equal(pycam.overlay(image, maps[0], net=net, views=views), expected)
    assert (expected != pycam.overlay(image, maps[0])).any()


def test_scores_are_those_of_the_command():
    random = np.random.RandomState(0)
    labels, probs = np.arange(30) % 3, random.dirichlet([1, 1, 1], 30)
    figures = pycam.score(labels, probs)
    assert figures == pycam.score([api.CLASSES[label] for label in labels], probs[:, :2])
    assert figures == api.scoring.score(labels, probs[:, :2])


# ---------------------------------------------------------------- what is refused
@pytest.mark.parametrize(("wrong", "said"), [
    (lambda image: image.transpose(2, 0, 1), r"channels come first: give image.transpose\(1, 2, 0\)"),
    (lambda image: image / np.float32(255), r"of float32, expected H x W x 3 of uint8; values of 0 to 1 become"),
    (lambda image: image.astype(np.int64), "of int64, expected"),
    (lambda image: image[..., 0], r"it is grey: give numpy.dstack"),
    (lambda image: np.dstack([image, image[..., :1]]), r"transparency: give image\[..., :3\]"),
    (lambda image: image[None], r"several pictures are given as a list, list\(images\)"),
    (lambda image: image[:0], "found an array 0 x "),
    (lambda image: np.uint8(3), "found uint8, expected a picture"),
    (lambda image: "examples/a.jpg", r"found str, .* pycam.read_image"),
    (lambda image: [], "empty list"),
    (lambda image: [image, image.astype(float)], "of float64"),
    (lambda image: None, "found NoneType")])
def test_what_is_no_picture_is_refused_by_every_function_that_takes_one(net, image, wrong, said):
    given = wrong(image)
    for call in (lambda: pycam.predict(net, given), lambda: pycam.class_maps(net, given), lambda: pycam.remove_hair(given),
                 lambda: pycam.overlay(given, np.ones((3, 3))), lambda: pycam.classify(None, given)):
        with pytest.raises(CamError, match=said):
            call()


@pytest.mark.parametrize(("call", "said"), [
    (lambda net, image: pycam.predict(net, image, colour="gbr"), "colour 'gbr' is not known"),
    (lambda net, image: pycam.read_image(ROOT / "examples" / "ISIC_0000225.jpg", colour="RBG"), "colour 'RBG' is not known"),
    (lambda net, image: pycam.predict(net, image, views="five"), "views 'five' is not known"),
    (lambda net, image: pycam.locate(np.ones((3, 4, 5))), r"found an array \(3, 4, 5\) of float64, .*maps\[0\]"),
    (lambda net, image: pycam.locate(np.ones((4, 5), int)), "of int64, expected a map"),
    (lambda net, image: pycam.locate([None]), "found NoneType, expected a map"),
    (lambda net, image: pycam.locate(np.eye(3), threshold=2), r"threshold: 2 is not in \[0, 1\)"),
    (lambda net, image: pycam.overlay(image, np.eye(3)), r"maps of \[\(3, 3\)\] pixels; expected for each picture"),
    (lambda net, image: pycam.overlay([image, image], [np.eye(3)]), "expected for each picture a map"),
    (lambda net, image: pycam.score([0, 1], np.ones((3, 3))), r"shape \(3, 3\) for 2 pictures"),
    (lambda net, image: pycam.score([0, 1], np.ones(2)), r"shape \(2,\) for 2 pictures"),
    (lambda net, image: pycam.score([0, 1], [[3, 0], [0, 1]]), r"not in \[0, 1\]"),
    (lambda net, image: pycam.score([0, 1], [[np.nan, 0], [0, 1]]), r"not in \[0, 1\]"),
    (lambda net, image: pycam.score(["mole", "nevus"], np.zeros((2, 2))), "class 'mole' is not known"),
    (lambda net, image: pycam.load_net("nowhere.caffemodel"), "no such weights file"),
    (lambda net, image: pycam.load_net("a.caffemodel", "a.prototxt", mean=(1, np.nan, 0)), "expected finite numbers"),
    (lambda net, image: pycam.load_stages("a", "b", treshold=1), "did you mean threshold")])
def test_what_cannot_be_meant_is_refused(net, image, call, said):
    with pytest.raises(CamError, match=said):
        call(net, image)
