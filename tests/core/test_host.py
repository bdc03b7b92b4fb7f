"""The machine as it is, and names of instruction sets from the flags that real machines report."""

import json
import os
import re
import subprocess
import sys

import pytest

from gleanet.core import host


def test_this_machine_is_described_in_json() -> None:
    found = host.machine()
    assert set(found) == {"cpu", "arch", "cores", "memory_gb", "os", "isa", "gpu"}
    assert found["cpu"]
    assert found["os"]
    assert 1 <= found["cores"] <= (os.cpu_count() or 1)
    assert 0.1 < found["memory_gb"] < 100_000
    assert json.loads(json.dumps(found)) == found


def test_what_a_caller_does_to_the_answer_does_not_stay() -> None:
    host.machine()["isa"].append("MAGIC")
    assert "MAGIC" not in host.machine()["isa"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be taken from a process here")
def test_cores_are_those_of_this_process() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert host.cores() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("architecture", "flags", "expected"),
    [
        ("x86_64", "fpu sse4_2 avx avx2 fma f16c", ["AVX", "AVX2", "FMA", "F16C"]),  # Haswell: U8S8 saturates here
        ("x86_64", "avx2 avx512f avx512vnni avx512_vnni amx_int8", ["AVX2", "AVX512F", "AVX512_VNNI", "AMX_INT8"]),
        ("aarch64", "fp asimd evtstrm crc32", ["NEON"]),  # Raspberry Pi 4
        ("aarch64", "fp asimd asimdhp asimddp i8mm sve", ["NEON", "FP16", "DOTPROD", "I8MM", "SVE"]),  # Graviton 3
        ("arm64", "FEAT_DotProd FEAT_I8MM FEAT_FP16", ["NEON", "FP16", "DOTPROD", "I8MM"]),  # macOS
        ("armv7l", "half thumb neon vfpv4", ["NEON"]),
        ("riscv64", "", []),
    ],
)
def test_instruction_sets_have_one_name_everywhere(architecture: str, flags: str, expected: list[str]) -> None:
    assert host.isa_names(flags.split(), architecture) == expected


def test_versions_are_versions() -> None:
    found = host.versions()
    assert list(found) == ["gleanet", "python", "torch", "onnx", "onnxruntime", "numpy"]
    assert all(re.match(r"\d+\.\d+", version) for name, version in found.items() if name != "gleanet")
    assert found["onnxruntime"] == host.runtimes()["onnxruntime"]


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from gleanet.core import host, store; host.machine(); host.versions(); host.runtimes();"
        "print(*({'torch', 'onnx', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
