"""The page in a real browser, served by the real command: it says what ONNX Runtime says."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gleanet.data import load
from gleanet.export import reform_file
from gleanet.web import OrtWeb, export_site, make_site, open_server
from tests.web.conftest import Serving
from tests.web.making import png, probabilities, renamed, write_record

FLOAT = 1e-3
INT8 = 5e-3  # the wasm kernels may round an 8-bit value otherwise; one step of it is about a tenth of this here
WAIT_MS = 30_000


@dataclass
class Shown:
    """A page, and all that went wrong on it."""

    page: Any
    wrong: list[str] = field(default_factory=list)

    def text(self, selector: str, *words: str) -> str:
        """The element's text, once it contains the words (any text, if none are given)."""
        element = self.page.locator(selector).filter(has_text=re.compile(".*".join(map(re.escape, words)) or r"\S"))
        element.wait_for(timeout=WAIT_MS)
        return str(element.inner_text())

    def answered(self, words: str) -> None:
        """Wait for the answers to the image that is called so."""
        self.page.locator(f'#seen[aria-label^="{words},"]').wait_for(timeout=WAIT_MS)
        self.page.locator('#cards[aria-busy="false"]').wait_for(timeout=WAIT_MS)

    def choose(self, place: int) -> int:
        """Click on a sample; its row in the test set."""
        button = self.page.locator("#samples button").nth(place)
        row = int(re.findall(r"\d+", button.get_attribute("aria-label"))[0])
        button.click()
        self.answered(f"Test image {row}")
        return row

    def probabilities(self, label: str) -> dict[int, float]:
        rows = self.page.locator(f'[data-label="{label}"] .bars li')
        found = rows.evaluate_all("rows => rows.map(row => [Number(row.dataset.class), Number(row.dataset.p)])")
        return {int(index): float(p) for index, p in found}


@contextmanager
def opened(browser: Any, url: str, **options: Any) -> Iterator[Shown]:
    context = browser.new_context(**options)
    shown = Shown(context.new_page())
    shown.page.on("console", lambda message: shown.wrong.append(message.text) if message.type in ("error", "warning") else None)
    shown.page.on("pageerror", lambda error: shown.wrong.append(str(error)))
    shown.page.on("response", lambda response: shown.wrong.append(response.url) if response.status >= 400 else None)
    try:
        shown.page.goto(url)
        shown.page.locator('#cards[aria-busy="false"]').wait_for(timeout=WAIT_MS)  # the first sample is tried at once
        yield shown
        assert shown.wrong == []
    finally:
        context.close()


@contextmanager
def static(folder: Path) -> Iterator[str]:
    """The folder, behind the standard library's own web server."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "-d", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        port = re.search(r"port (\d+)", process.stdout.readline())
        assert port is not None
        try:
            yield f"http://127.0.0.1:{port[1]}/"
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def url(serving: Serving, run_folder: Path, ort_web: OrtWeb, browser: Any) -> Iterator[str]:
    with serving(run_folder, "--ort-web", ort_web.folder) as (address, _):
        yield address


def assert_says(shown: Shown, run: Path, pixels: NDArray[np.uint8], slack: float = 0.0) -> None:
    for label, file, tolerance in (("float", "base.onnx", FLOAT), ("int8", "model.int8.onnx", INT8)):
        expected, found = probabilities(run / file, pixels), shown.probabilities(label)
        assert len(found) >= 5
        assert max(abs(expected[k] - p) for k, p in found.items()) <= tolerance + slack
        assert int(expected.argmax()) in found


def spread(run: Path, pixels: NDArray[np.uint8]) -> float:
    """How far apart the likeliest and the unlikeliest class are: a test on even probabilities would show nothing."""
    return float(np.ptp(probabilities(run / "base.onnx", pixels)))


def test_a_sample_gives_what_onnx_runtime_gives(browser: Any, url: str, run_folder: Path) -> None:
    test = load("digits").test
    with opened(browser, url) as shown:
        assert shown.page.locator("#samples button").count() == 24
        for place in (11, 0, 23):
            row = shown.choose(place)
            assert f"The data says {test.labels[row]}" in shown.text("#verdict", "say")
            assert shown.page.locator('#samples button[aria-pressed="true"]').count() == 1
            assert spread(run_folder, test.images[row]) > 0.1
            assert_says(shown, run_folder, test.images[row])


def test_the_figures_of_this_browser_are_there(browser: Any, url: str, run_folder: Path) -> None:
    with opened(browser, url) as shown:
        shown.page.locator("#samples button").first.click()
        speed = shown.text("#speed", "int8 is")
        sizes = [f"{(run_folder / name).stat().st_size / 1000:.0f} kB" for name in ("model.int8.onnx", "base.onnx")]
        assert f"{sizes[0]} against {sizes[1]}" in speed
        times = [float(ms) for ms in re.findall(r"([\d.]+) ms", speed)]
        assert len(times) == 2
        assert all(0 < ms < 1000 for ms in times)
        assert re.search(r"Median of \d+ rounds of \d+ \(float\) and \d+ \(int8\) calls", shown.text("#how", "Median"))
        assert shown.page.evaluate("crossOriginIsolated") is True


def test_all_samples_are_counted(browser: Any, url: str, run_folder: Path) -> None:
    test = load("digits").test
    with opened(browser, url) as shown:
        labels = shown.page.locator("#samples button").evaluate_all("all => all.map(one => one.getAttribute('aria-label'))")
        rows = [int(re.findall(r"\d+", words)[0]) for words in labels]
        answers = [
            [int(probabilities(run_folder / f, test.images[row]).argmax()) for row in rows] for f in ("base.onnx", "model.int8.onnx")
        ]
        shown.page.locator("#try-all").click()
        right = [sum(a == int(test.labels[row]) for a, row in zip(own, rows, strict=True)) for own in answers]
        agree = sum(a == b for a, b in zip(*answers, strict=True))
        assert f"agree on {agree} of 24; float is right on {right[0]}, int8 on {right[1]}." in shown.text("#tally")


def test_a_dropped_file_and_a_chosen_one(browser: Any, url: str, run_folder: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (2, 3, 16, 16), dtype=np.uint8)
    files = """bytes => { const all = new DataTransfer()
                          all.items.add(new File([new Uint8Array(bytes)], 'mine.png', { type: 'image/png' })); return all }"""
    with opened(browser, url) as shown:
        carried = shown.page.evaluate_handle(files, list(png(pixels[0])))
        shown.page.dispatch_event("#drop", "drop", {"dataTransfer": carried})
        shown.answered("mine.png")
        assert_says(shown, run_folder, pixels[0])
        chosen = {"name": "other.png", "mimeType": "image/png", "buffer": png(pixels[1])}
        shown.page.locator("#file").set_input_files(chosen)
        shown.answered("other.png")
        assert_says(shown, run_folder, pixels[1])


def test_a_file_that_is_no_image_is_a_sentence(browser: Any, url: str) -> None:
    with opened(browser, url) as shown:
        shown.page.locator("#file").set_input_files({"name": "notes.txt", "mimeType": "text/plain", "buffer": b"hello"})
        assert "notes.txt is not an image" in shown.text("#trouble", "notes.txt")


@pytest.mark.parametrize(("width", "height"), [(100, 70), (30, 90), (16, 40), (9, 9)])
def test_another_size_is_cut_and_resized_as_pillow_does(browser: Any, url: str, run_folder: Path, width: int, height: int) -> None:
    rng = np.random.default_rng(width)
    image = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    expected = image.crop((left, top, left + side, top + side)).resize((16, 16), Image.Resampling.BILINEAR)
    given = np.asarray(image).transpose(2, 0, 1)
    with opened(browser, url) as shown:
        shown.page.locator("#file").set_input_files({"name": "wide.png", "mimeType": "image/png", "buffer": png(given)})
        shown.answered("wide.png")
        read = "canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, 16, 16).data)"
        seen = np.array(shown.page.locator("#seen").evaluate(read), dtype=np.int64).reshape(16, 16, 4)[..., :3]
        assert np.abs(seen - np.asarray(expected).astype(np.int64)).max() <= 1  # Pillow computes in fixed point
        assert_says(shown, run_folder, seen.astype(np.uint8).transpose(2, 0, 1))


@contextmanager
def served(run: Path, ort: OrtWeb) -> Iterator[str]:
    """The run's page from a server in this process."""
    with open_server(make_site(run, ort)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


def test_names_are_text_and_never_markup(browser: Any, run_folder: Path, ort_web: OrtWeb, tmp_path: Path) -> None:
    evil = tuple(f"<img src=x onerror=alert({k})><b>{k}</b>" for k in range(10))
    with served(renamed(run_folder, tmp_path / "<b>evil", evil), ort_web) as url, opened(browser, url) as shown:
        shown.choose(1)
        assert "<img src=x onerror=alert(" in shown.text("#verdict", "say")
        assert shown.page.locator("b, img[src=x]").count() == 0
        assert "<b>evil" in shown.text("#about")


@pytest.mark.parametrize(
    ("plain", "small"),
    [
        ({"input": "uint8", "layout": "NHWC", "output": "softmax"}, {"layout": "NHWC", "batch": 4}),
        ({"layout": "NHWC"}, {"input": "uint8", "output": "argmax"}),
    ],
)
def test_files_in_other_forms_say_the_same(
    browser: Any, run_folder: Path, ort_web: OrtWeb, tmp_path: Path, plain: dict[str, Any], small: dict[str, Any]
) -> None:
    write_record(tmp_path / "run")
    for name, form in (("base.onnx", plain), ("model.int8.onnx", small)):
        reform_file(run_folder / name, tmp_path / "run" / name, **form)
    with served(tmp_path / "run", ort_web) as url, opened(browser, url) as shown:
        pixels = load("digits").test.images[shown.choose(4)]
        expected = probabilities(run_folder / "model.int8.onnx", pixels)
        if small.get("output") == "argmax":
            card = shown.page.locator('[data-label="int8"]')
            assert card.locator(".class").inner_text() == str(expected.argmax())
            assert card.locator(".bars li").count() == 0
            assert spread(run_folder, pixels) > 0.1
        else:
            assert max(abs(expected[k] - p) for k, p in shown.probabilities("int8").items()) <= INT8
        expected = probabilities(run_folder / "base.onnx", pixels)
        assert max(abs(expected[k] - p) for k, p in shown.probabilities("float").items()) <= FLOAT


def test_grey_and_blue_first_are_made_as_python_makes_them(browser: Any, url: str) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    rgba = np.dstack([pixels, np.full((4, 6), 255, dtype=np.uint8)]).reshape(-1)
    code = "async ([rgba, model]) => Array.from((await import('./pixels.js')).toInput(rgba, model))"
    size = {"batch": 1, "height": 4, "width": 6, "layout": "NCHW"}
    with opened(browser, url) as shown:
        grey = shown.page.evaluate(code, [rgba.tolist(), {**size, "channels": 1, "dtype": "uint8", "preprocess": None}])
        assert grey == np.asarray(Image.fromarray(pixels).convert("L")).reshape(-1).tolist()
        told = {"range": [-1, 1], "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7], "color": "BGR"}
        blue = shown.page.evaluate(code, [rgba.tolist(), {**size, "channels": 3, "dtype": "float32", "preprocess": told}])
        wanted = (pixels[..., ::-1] / 127.5 - 1 - np.array(told["mean"])) / np.array(told["std"])
        assert np.allclose(np.array(blue).reshape(3, 4, 6), wanted.transpose(2, 0, 1), atol=1e-6)


def test_an_exported_site_does_the_same_behind_any_server(browser: Any, run_folder: Path, ort_web: OrtWeb, tmp_path: Path) -> None:
    test = load("digits").test
    export_site(make_site(run_folder, ort_web), tmp_path / "deep" / "site")
    with static(tmp_path) as root, opened(browser, f"{root}deep/site/") as shown:
        assert_says(shown, run_folder, test.images[shown.choose(5)])
        assert shown.page.evaluate("crossOriginIsolated") is False  # no headers: one thread, and no choice of them
        assert shown.page.locator("#threads-label").is_hidden()


def test_another_number_of_threads_says_the_same(browser: Any, url: str, run_folder: Path) -> None:
    test = load("digits").test
    with opened(browser, url) as shown:
        if shown.page.locator("#threads-label").is_hidden():
            pytest.skip("needs a machine with two cores")
        row = shown.choose(1)
        shown.page.locator("#threads").select_option("2")
        shown.text("#how", "2 threads", "Median")
        assert_says(shown, run_folder, test.images[row])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_usable_by_keyboard_and_on_a_narrow_screen(browser: Any, url: str, scheme: str) -> None:
    with opened(browser, url, color_scheme=scheme, viewport={"width": 360, "height": 700}) as shown:
        page = shown.page
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "file"
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert [one.get_attribute("aria-pressed") for one in page.locator("#samples button").all()[:2]] == ["false", "true"]
        shown.text("#verdict", "say")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        bad = "all => all.filter(one => !(one.labels?.length || one.textContent.trim() || one.getAttribute('aria-label'))).length"
        assert page.locator("button, select, input").evaluate_all(bad) == 0
