"""The report in a real browser: it sorts, filters, reports no error, asks for nothing, and shows names as they are."""
import shutil
import warnings

import numpy as np
import pytest

from pycam import examples, gallery, html_page
from pycam.__main__ import main
from pycam.drawing import BARS

pytest.importorskip("matplotlib.figure")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PHONE, DESK = (390, 844), (1280, 900)
CONTROLS = "a[href], button, input, select, summary, [tabindex='0']"


@pytest.fixture(scope="module")
def browser():
    """Return a browser without a window."""
    programs = next(filter(None, map(shutil.which, BROWSERS)), None), shutil.which("chromedriver")
    if not all(programs):
        pytest.skip("no browser: the report is not driven in one (apt-get install chromium chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium: pip install '.[dev]'")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(programs[1]))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def opened(shared_run, browser):
    """Return a function that opens the report from the disk, with its pictures inside or beside it."""
    paths = {}
    for name, embedded in (("inside", 9), ("beside & more", 8)):
        paths[name] = shared_run / "out" / f"{name}.html"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(gallery, "EMBEDDED", embedded)
            assert main(["report", "--run", str(shared_run), "--out", str(paths[name]), "--net", "deploy.prototxt"]) == 0

    def open_page(size=DESK, scheme="light", name="inside"):
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                                {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        browser.get(paths[name].as_uri())
        return browser
    return open_page


def shown(browser):
    """Return the ids of the cards that are shown, in their order."""
    return browser.execute_script("return [...document.querySelectorAll('.item')].filter(e => e.offsetParent)"
                                  ".map(e => e.dataset.id)")


def choose(browser, name, value):
    browser.execute_script("const e = document.getElementById(arguments[0]); e.value = arguments[1];"
                           "e.dispatchEvent(new Event('input', {bubbles: true}))", name, value)
    return shown(browser)


def test_the_gallery_filters(opened, shared_run):
    page = opened()
    run = examples.Run(shared_run, None)
    first, final = ({i: int(np.argmax(p)) for i, p in probs.items()} for probs in (run.stage1, run.stage2))
    everything = sorted(run.labels)
    assert shown(page) == everything
    for label in range(3):
        assert choose(page, "truth", str(label)) == [i for i in everything if run.labels[i] == label]
    choose(page, "truth", "")
    mended = [i for i in everything if first[i] != run.labels[i] == final[i]]
    assert mended
    assert choose(page, "outcome", "wrong right") == mended
    assert page.execute_script("return document.getElementById('count').value") == f"{len(mended)} of 9"
    assert choose(page, "outcome", "whole") == ["ISIC_0000000"]
    choose(page, "outcome", "")
    assert choose(page, "find", "00007") == ["ISIC_0000007"]
    assert choose(page, "find", "nothing") == []
    assert page.get_log("browser") == []


def test_the_gallery_sorts_and_reverses(opened, shared_run):
    page, run = opened(), examples.Run(shared_run, None)
    keys = {"m": lambda i: run.stage2[i][0], "sk": lambda i: run.stage2[i][1],
            "gain": lambda i: run.stage2[i][run.labels[i]] - run.stage1[i][run.labels[i]]}
    for name, key in keys.items():
        assert choose(page, "sort", name) == sorted(run.labels, key=key, reverse=True)
    page.execute_script("document.getElementById('reverse').click()")
    assert shown(page) == sorted(run.labels, key=keys["gain"])
    assert page.get_log("browser") == []


@pytest.mark.parametrize(("size", "scheme"), [(DESK, "dark"), (PHONE, "light")])
def test_the_page_fits_and_takes_the_scheme(opened, size, scheme):
    page = opened(size, scheme)
    width = page.execute_script("return document.documentElement.scrollWidth")
    assert width <= size[0]
    ground = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) < 300) == (scheme == "dark")
    assert page.get_log("browser") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_bars_of_the_gallery_have_the_colours_of_the_stages(opened, scheme):
    browser = opened(scheme=scheme)
    for row, (blue, green, red) in zip((".stage1", ".stage2"), BARS):
        painted = browser.execute_script("return getComputedStyle(document.querySelector(arguments[0])).backgroundImage",
                                         f"{row} td")
        assert f"rgba({red}, {green}, {blue}, 0.{2 if scheme == 'light' else 33})" in painted


HEAD = [
    ("data", "ISIC-2017"), ("split", "validation, 150 pictures"), ("network", "googlenet_gap"), ("engine", "torchcaffe 1.0.0"),
    ("starting weights", "bvlc_googlenet.caffemodel"), ("device", "CUDA 0, bf16"), ("hair method", "along"),
    ("region rule", "threshold 0.35, ground min, margin 0.1, placement exact, views centre, class scored"),
    ("date", "2026-11-27 05:10 UTC"), ("duration", "3 h 12 min"), ("commit", "c" * 40)]


@pytest.mark.parametrize("size", [DESK, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_head_is_compact_and_readable(opened, tmp_path, size, scheme):
    (tmp_path / "head.html").write_text(html_page.document("title", {"a": "b"}, html_page.head(HEAD)))
    browser = opened(size, scheme)
    browser.get((tmp_path / "head.html").as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
    boxes = browser.execute_script("return [...document.querySelectorAll('.head dt, .head dd')]"
                                   ".map(e => e.getBoundingClientRect()).map(r => [r.left, r.right, r.top, r.bottom])")
    assert len(boxes) == 2 * len(HEAD)
    assert all(0 <= left < right <= size[0] for left, right, _, _ in boxes)
    assert max(bottom for *_, bottom in boxes) - boxes[0][2] < (400 if size == PHONE else 200)
    for name in ("dt", "dd"):
        ink = browser.execute_script("return getComputedStyle(document.querySelector(arguments[0])).color", f".head {name}")
        assert (sum(map(int, ink[4:-1].split(","))) > 380) == (scheme == "dark")
    assert browser.get_log("browser") == []


def test_names_that_try_to_be_html_are_shown_as_they_are(opened, evil_id):
    page = opened()
    assert evil_id in shown(page)
    names = page.execute_script("return [...document.querySelectorAll('.item h3')].map(e => e.firstChild.textContent.trim())")
    assert evil_id in names
    assert page.execute_script("return document.querySelectorAll('img[src=\"x\"], script').length") == 1  # the page's own


def test_many_pictures_lie_beside_the_page_and_load(opened, shared_run):
    page = opened(name="beside & more")
    files = sorted((shared_run / "out" / "beside & more_files").iterdir())
    assert [file.name for file in files] == [f"{n:05}.jpg" for n in range(1, 10)]
    page.execute_script("document.querySelectorAll('.item img').forEach(e => e.loading = 'eager')")
    page.set_script_timeout(20)
    widths = page.execute_async_script(
        "const done = arguments[0], pictures = [...document.querySelectorAll('.item img')];"
        "Promise.all(pictures.map(e => e.decode())).then(() => done(pictures.map(e => e.naturalWidth)))")
    assert len(widths) == 9
    assert all(widths)
    assert page.get_log("browser") == []


def test_the_page_may_load_nothing_from_elsewhere(opened):
    page = opened()
    page.execute_script("const e = document.createElement('img'); e.src = 'https://example.org/x.png'; document.body.append(e)")
    assert "Content Security Policy" in page.get_log("browser")[0]["message"]


def test_a_picture_is_enlarged_by_click_and_by_enter_and_closed_by_escape(opened):
    from selenium.webdriver import ActionChains, Keys

    page = opened()
    buttons = page.find_elements("css selector", ".enlarge")
    is_open = "return document.getElementById('large').open"
    for act in (lambda button: button.send_keys(Keys.ENTER), lambda button: page.execute_script("arguments[0].click()", button)):
        act(buttons[1])
        assert page.execute_script(is_open)
        small, large = (page.find_element("css selector", part).get_attribute("src")
                        for part in (".item:nth-child(2) img", "#large img"))
        assert small == large
        assert "map of melanoma" in page.find_element("id", "large-title").text
        ActionChains(page).send_keys(Keys.ESCAPE).perform()
        assert not page.execute_script(is_open)
    assert page.get_log("browser") == []


def test_no_id_stands_twice(opened):
    ids = opened().execute_script("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(("size", "scheme"), [(DESK, "light"), (DESK, "dark"), (PHONE, "light")])
def test_axe_finds_nothing(opened, size, scheme):
    axe = pytest.importorskip("axe_core_python.selenium", reason="no axe: pip install '.[dev]'")
    found = axe.Axe().run(opened(size, scheme))
    assert found["passes"]
    assert [(rule["id"], node["html"]) for rule in found["violations"] for node in rule["nodes"]] == []


def test_the_tab_key_reaches_every_control_in_order(opened):
    from selenium.webdriver import ActionChains, Keys

    page = opened()
    wanted = page.execute_script("return [...document.querySelectorAll(arguments[0])].filter(e => e.checkVisibility())"
                                 ".map((e, i) => e.dataset.order = String(i))", CONTROLS)
    reached = []
    for _ in wanted:
        ActionChains(page).send_keys(Keys.TAB).perform()
        reached.append(page.execute_script("return document.activeElement.dataset.order"))
    assert wanted == reached
