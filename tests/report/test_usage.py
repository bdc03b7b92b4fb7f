"""The code on the page is run, as it stands, in an empty folder with the run's files and a photo: it says what we say."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from gleanet.core.errors import DataError
from gleanet.core.records import Interface, Preprocess
from gleanet.data import to_input
from gleanet.export import reform_file
from gleanet.measure import predict
from gleanet.measure.interface import read_interface
from gleanet.nn import architecture_of, build, set_architecture
from gleanet.nn import save as save_checkpoint
from gleanet.report.usage import snippets
from gleanet.web import OrtWeb
from tests.onnxruntime_cpp import link_library
from tests.onnxruntime_cs import ASSEMBLY, build_assembly
from tests.tiny_onnx import convnet, save

CLASSES = tuple(f"class {index}" for index in range(10))
MEAN, STD = (0.3, 0.4, 0.5), (0.2, 0.25, 0.3)  # three different ones, so that a mixed-up channel shows
PREPROCESS = Preprocess(mean=MEAN, std=STD)
METADATA = {"gleanet.preprocess": json.dumps(asdict(PREPROCESS)), "gleanet.classes": json.dumps(CLASSES)}
FORMS: list[dict[str, Any]] = [
    {},
    {"input": "uint8", "layout": "NHWC"},
    {"layout": "NHWC", "batch": 3, "output": "softmax"},
    {"input": "uint8", "output": "argmax", "batch": 1},
]
HEADER = """
#pragma once
#include <cstddef>
#include <cstdint>
enum OrtAllocatorType { OrtArenaAllocator };
enum OrtMemType { OrtMemTypeDefault };
namespace Ort {
struct MemoryInfo { static MemoryInfo CreateCpu(OrtAllocatorType, OrtMemType); };
struct TensorTypeAndShapeInfo { std::size_t GetElementCount() const; };
struct Value {
  template <typename T> static Value CreateTensor(const MemoryInfo&, T*, std::size_t, const std::int64_t*, std::size_t);
  template <typename T> const T* GetTensorData() const;
  TensorTypeAndShapeInfo GetTensorTypeAndShapeInfo() const;
};
struct Outputs { Value& operator[](std::size_t); };
struct Env {};
struct SessionOptions { SessionOptions& SetIntraOpNumThreads(int); };
struct RunOptions { explicit RunOptions(std::nullptr_t); };
struct Session {
  Session(const Env&, const char*, const SessionOptions&);
  Outputs Run(const RunOptions&, const char* const*, const Value*, std::size_t, const char* const*, std::size_t);
};
}
"""

MAIN_CS = """
using System;
using System.IO;
static class Program
{
    static void Main(string[] files)
    {
        using (var classifier = new Classifier())
            foreach (var file in files) Console.WriteLine(Classifier.Classes[classifier.Classify(File.ReadAllBytes(file))]);
    }
}
"""


def code_of(interface: Interface, name: str, *, checkpoint: bool = False) -> str:
    return next(found.code for found in snippets(interface, checkpoint=checkpoint) if found.name == name)


def pictures(folder: Path) -> list[NDArray[np.uint8]]:
    """A dark, a bright and a reddish image, written as photo0.png and so on."""
    noise = np.random.default_rng(1).integers(0, 256, (3, 3, 16, 16), dtype=np.uint8)
    noise[0] //= 4
    noise[1] = 255 - noise[1] // 5
    noise[2, 1:] //= 3
    for index, pixels in enumerate(noise):
        Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(folder / f"photo{index}.png")
    return list(noise)


def ran(code: str, folder: Path, index: int) -> tuple[str, Any]:
    """What the code prints about one of the images, and its ``answer``, from a process of its own."""
    (folder / "photo.png").write_bytes((folder / f"photo{index}.png").read_bytes())
    more = "\nprint(answer.tolist())"
    done = subprocess.run([sys.executable, "-c", code + more], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    word, answer = done.stdout.strip().split("\n")
    return word, json.loads(answer)


def assert_compiles(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def lively(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float file that answers differently to different noise."""
    return save(convnet(size=16, classes=10, metadata=METADATA), tmp_path_factory.mktemp("lively") / "model.int8.onnx")


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("runtime", ["Python, ONNX Runtime", "Python, OpenVINO"])
def test_python_says_what_we_say(lively: Path, tmp_path: Path, form: dict[str, Any], runtime: str) -> None:
    if "OpenVINO" in runtime:
        pytest.importorskip("openvino")
    file = tmp_path / "model.int8.onnx"
    if form:
        reform_file(lively, file, **form)
    else:
        file.write_bytes(lively.read_bytes())
    images, code = pictures(tmp_path), code_of(read_interface(file), runtime)
    for index in (2, 1):
        wanted = predict(lively, images[index][None])[0]
        word, answer = ran(code, tmp_path, index)
        assert word == CLASSES[int(wanted.argmax())]
        if form.get("output") == "argmax":
            assert answer == wanted.argmax()
        else:
            scores = np.exp(wanted - wanted.max()) / np.exp(wanted - wanted.max()).sum() if form.get("output") else wanted
            assert np.allclose(answer, scores, atol=1e-4)


def test_other_constants_and_blue_first_are_in_the_code(lively: Path, tmp_path: Path) -> None:
    told = Preprocess(range=(-1.0, 1.0), mean=MEAN, std=STD, color="BGR")
    interface = replace(read_interface(lively), file=str(lively), preprocess=told)
    images = pictures(tmp_path)
    _, answer = ran(code_of(interface, "Python, ONNX Runtime"), tmp_path, 2)
    mean, std = (np.array(values).reshape(3, 1, 1) for values in (MEAN, STD))
    x = ((images[2][::-1] / 127.5 - 1 - mean) / std).astype(np.float32)
    assert np.allclose(answer, predict(lively, x[None])[0], atol=1e-4)


def test_pytorch_loads_the_checkpoint(tmp_path: Path) -> None:
    net = build("resnet8", seed=0).eval()
    set_architecture(net, replace(architecture_of(net), input_shape=(3, 16, 16), preprocess=PREPROCESS))
    save_checkpoint(net, tmp_path / "model.gleanet")
    images = pictures(tmp_path)
    interface = Interface("model.onnx", "input", "logits", "float32", (None, 3, 16, 16), preprocess=PREPROCESS, classes=CLASSES)
    word, answer = ran(code_of(interface, "Python, PyTorch", checkpoint=True), tmp_path, 2)
    with torch.no_grad():
        wanted = net(torch.from_numpy(to_input(images[2][None], PREPROCESS)))[0].numpy()
    assert np.allclose(answer, wanted, atol=1e-4)
    assert word == CLASSES[int(wanted.argmax())]


@pytest.mark.parametrize("form", [{}, {"input": "uint8", "layout": "NHWC"}], ids=str)
def test_javascript_says_what_we_say(browser: Any, ort_web: OrtWeb, lively: Path, tmp_path: Path, form: dict[str, Any]) -> None:
    file = tmp_path / "model.int8.onnx"
    reform_file(lively, file, **(form or {"batch": 1}))
    images = pictures(tmp_path)
    dist = ort_web.folder / "dist"
    known = {
        "/": ("text/html", b"<!doctype html><title>test</title>"),
        "/classify.js": ("text/javascript", code_of(read_interface(file), "JavaScript, onnxruntime-web").encode()),
        "/model.int8.onnx": ("application/octet-stream", file.read_bytes()),
        **{f"/photo{index}.png": ("image/png", (tmp_path / f"photo{index}.png").read_bytes()) for index in range(3)},
        **{
            f"/{one.name}": ("application/wasm" if one.suffix == ".wasm" else "text/javascript", one.read_bytes()) for one in dist.iterdir()
        },
    }
    page = browser.new_page()
    page.route("**/*", lambda route: _answer(route, known))
    page.goto("http://site.test/")
    for index in range(3):
        words = "async name => (await import('./classify.js')).classify(await createImageBitmap(await (await fetch(name)).blob()))"
        assert page.evaluate(words, f"/photo{index}.png") == CLASSES[int(predict(lively, images[index][None])[0].argmax())]
    page.close()


def _answer(route: Any, known: dict[str, tuple[str, bytes]]) -> None:
    path = "/" + route.request.url.partition("site.test/")[2]
    if path not in known:
        route.fulfill(status=404)
        return
    kind, body = known[path]
    route.fulfill(status=200, content_type=kind, body=body)


def test_every_runtime_has_the_files_names_and_constants(lively: Path) -> None:
    found = snippets(read_interface(lively), checkpoint=True)
    assert len(found) == 6
    for one in found:
        assert "0.25" in one.code
        assert "class 9" in one.code
        if "PyTorch" not in one.name:
            assert re.search(r'"(\./)?model\.int8\.onnx"', one.code)
            assert '"x"' in one.code


def odd_interfaces(file: Path) -> tuple[Interface, ...]:
    known = read_interface(file)
    odd = replace(known, input='in "put', classes=('a"b', "고양이"))
    return known, odd, replace(odd, dtype="uint8", preprocess=None, gives="class", layout="NHWC", shape=(4, 16, 16, 1))


def test_c_plus_plus_compiles(lively: Path, tmp_path: Path) -> None:
    """Against declarations that stand in for ONNX Runtime's header, which has to be downloaded: all but its names is checked."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    (tmp_path / "onnxruntime_cxx_api.h").write_text(HEADER)
    for interface in odd_interfaces(lively):
        (tmp_path / "classify.cpp").write_text(code_of(interface, "C++, ONNX Runtime"))
        command = [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I.", "classify.cpp"]
        assert_compiles(command, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_c_plus_plus_says_what_we_say(ort_cpp: Path, lively: Path, tmp_path: Path, form: dict[str, Any]) -> None:
    """Compiled as its first line says, with the true header and library."""
    file = tmp_path / "model.int8.onnx"
    reform_file(lively, file, **(form or {"batch": 1}))
    code = code_of(read_interface(file), "C++, ONNX Runtime")
    gives_class = form.get("output") == "argmax"
    more = "std::cout << best;" if gives_class else 'for (std::size_t i = 0; i < count; ++i) std::cout << scores[i] << " ";'
    (tmp_path / "classify.cpp").write_text(f"{code.rstrip().removesuffix('}')}{more}\n}}\n")
    command = code.splitlines()[0].removeprefix("// ").split()
    strict = [
        "-Wall",
        "-Wextra",
        "-Werror",
        "-isystem",
        str(ort_cpp / "include"),
        "-L",
        str(ort_cpp / "lib"),
        f"-Wl,-rpath,{ort_cpp / 'lib'}",
    ]
    built = subprocess.run([*command, *strict], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert built.returncode == 0, built.stderr
    for index, pixels in enumerate(pictures(tmp_path)):
        Image.open(tmp_path / f"photo{index}.png").save(tmp_path / "image.ppm")
        done = subprocess.run(["./classify", "image.ppm"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        wanted = predict(lively, pixels[None])[0]
        word, answer = done.stdout.strip().split("\n")
        assert word == CLASSES[int(wanted.argmax())]
        if gives_class:
            assert int(answer) == wanted.argmax()
        else:
            scores = np.exp(wanted - wanted.max()) / np.exp(wanted - wanted.max()).sum() if form.get("output") else wanted
            assert np.allclose([float(score) for score in answer.split()], scores, atol=1e-4)
    (tmp_path / "image.ppm").write_bytes((tmp_path / "image.ppm").read_bytes()[:-1])
    cut = subprocess.run(["./classify", "image.ppm"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (cut.returncode, cut.stdout, cut.stderr) == (2, "", "give a binary PPM of 16 x 16 pixels\n")


def test_c_sharp_is_whole(lively: Path) -> None:
    """Where no compiler is at hand: at least every bracket is closed and no template is left."""
    for interface in odd_interfaces(lively):
        bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", code_of(interface, "C#, ONNX Runtime"))
        for opening, closing in ("()", "[]", "{}"):
            assert bare.count(opening) == bare.count(closing)
        assert "{%" not in bare


@pytest.fixture(scope="module")
def ort_cs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ONNX Runtime's C# interface and its library, where Mono is here and they can be had."""
    if shutil.which("mcs") is None or shutil.which("mono") is None:
        pytest.skip("needs mcs and mono (Debian: apt install mono-mcs)")
    folder = tmp_path_factory.mktemp("onnxruntime_cs")
    try:
        link_library(folder / "lib")
        build_assembly(folder)
    except (DataError, FileNotFoundError) as error:
        pytest.skip(f"ONNX Runtime's C# sources or its library are not to be had: {error}")
    return folder


@pytest.mark.slow
def test_c_sharp_compiles(ort_cs: Path, lively: Path, tmp_path: Path) -> None:
    for interface in odd_interfaces(lively):
        (tmp_path / "classify.cs").write_text(code_of(interface, "C#, ONNX Runtime"))
        words = ["mcs", "-warnaserror", "-target:library", f"-reference:{ort_cs / ASSEMBLY}", "classify.cs"]
        assert_compiles(words, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_c_sharp_says_what_we_say(ort_cs: Path, lively: Path, tmp_path: Path, form: dict[str, Any]) -> None:
    file = tmp_path / "model.int8.onnx"
    reform_file(lively, file, **(form or {"batch": 1}))
    code = code_of(read_interface(file), "C#, ONNX Runtime")
    (tmp_path / "classify.cs").write_text(code.replace("return Array", 'Console.Error.WriteLine(string.Join(" ", scores)); return Array'))
    (tmp_path / "main.cs").write_text(MAIN_CS)
    words = ["mcs", "-warnaserror", f"-reference:{ort_cs / ASSEMBLY}", "classify.cs", "main.cs", "-out:classify.exe"]
    built = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert built.returncode == 0, built.stderr
    images = pictures(tmp_path)
    for index, pixels in enumerate(images):
        (tmp_path / f"{index}.raw").write_bytes(pixels.transpose(1, 2, 0).tobytes())
    found = {**os.environ, "MONO_PATH": str(ort_cs), "LD_LIBRARY_PATH": str(ort_cs / "lib")}
    command = ["mono", "classify.exe", *(f"{index}.raw" for index in range(len(images)))]
    done = subprocess.run(command, cwd=tmp_path, env=found, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    wanted = predict(lively, np.stack(images))
    assert done.stdout.split("\n")[:-1] == [CLASSES[best] for best in wanted.argmax(axis=1)]
    if form.get("output") != "argmax":
        answers = [[float(score) for score in line.split()] for line in done.stderr.strip().split("\n")]
        probabilities = np.exp(wanted) / np.exp(wanted).sum(axis=1, keepdims=True)
        assert np.allclose([scores[:10] for scores in answers], probabilities if form.get("output") else wanted, atol=1e-4)


def test_a_run_that_does_not_say_how_its_file_is_called_has_no_code() -> None:
    assert snippets(None) == ()
    assert snippets(Interface("m.onnx", "x", "y", "float32", (None, 10))) == ()
