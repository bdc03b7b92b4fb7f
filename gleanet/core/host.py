"""What this machine and this Python are: written into every run, because a time without its machine is not a result.

Nothing here imports torch or a runtime: versions come from the installed packages' metadata.
"""

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from shutil import which
from typing import Any

import cpuinfo
import psutil  # type: ignore[import-untyped]

# Flag of the operating system or of CPUID -> the name we print, in the order we print them. Only what decides the speed of inference:
# float width, and the integer dot products without which U8S8 saturates or crawls.
_ISA = {
    "AVX": ("avx",),
    "AVX2": ("avx2",),
    "FMA": ("fma",),
    "F16C": ("f16c",),
    "AVX512F": ("avx512f",),
    "AVX512_VNNI": ("avx512_vnni", "avx512vnni"),
    "AVX512_BF16": ("avx512_bf16", "avx512bf16"),
    "AVX512_FP16": ("avx512_fp16", "avx512fp16"),
    "AVX_VNNI": ("avx_vnni", "avxvnni"),
    "AMX_INT8": ("amx_int8",),
    "AMX_BF16": ("amx_bf16",),
    "NEON": ("neon", "asimd"),
    "FP16": ("asimdhp", "feat_fp16"),
    "DOTPROD": ("asimddp", "feat_dotprod"),
    "I8MM": ("i8mm", "feat_i8mm"),
    "SVE": ("sve",),
    "SVE2": ("sve2",),
}
_RUNTIMES = {"onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"), "openvino": ("openvino",), "torch": ("torch",)}


def isa_names(flags: list[str], architecture: str) -> list[str]:
    """Readable names of the instruction sets that matter for inference, widest last within a family.

    Args:
        flags: CPU flags as the operating system spells them (``avx512vnni`` and ``avx512_vnni`` are one).
        architecture: ``platform.machine()``; 64-bit ARM always has NEON, whatever its flags say.
    """
    present = {flag.lower() for flag in flags}
    if architecture.lower() in {"aarch64", "arm64"}:
        present.add("neon")
    return [name for name, spellings in _ISA.items() if present.intersection(spellings)]


def cores() -> int:
    """Cores that this process may use: fewer than the machine has in a container or under ``taskset``."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory() -> int:
    """Bytes of memory this process may use: the machine's, or its control group's limit where that is lower."""
    total = int(psutil.virtual_memory().total)
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return min(total, int(text)) if text.isdigit() else total


def machine() -> dict[str, Any]:
    """This machine as plain data: cpu, arch, cores, memory_gb (10^9 bytes), os, isa (list of names), gpu (name or None).

    The first call takes about a second (CPU identification); later calls are free.
    """
    found = _machine()
    return {**found, "isa": list(found["isa"])}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the numbers, without importing them."""
    packages = ("torch", "onnx", "onnxruntime", "numpy")
    found = {"gleanet": _version("gleanet") or "source tree", "python": platform.python_version()}
    return found | {name: version for name in packages if (version := _version(*_RUNTIMES.get(name, (name,))))}


def runtimes() -> dict[str, str]:
    """Installed runtimes that can execute a model, name to version, without importing them."""
    return {name: version for name, packages in _RUNTIMES.items() if (version := _version(*packages))}


@cache
def _machine() -> dict[str, Any]:
    info = cpuinfo.get_cpu_info()
    architecture = platform.machine()
    flags = [*info.get("flags", ()), *_apple_features()]
    return {
        "cpu": " ".join((info.get("brand_raw") or _board() or platform.processor() or architecture).split()),
        "arch": architecture,
        "cores": cores(),
        "memory_gb": round(memory() / 1e9, 1),
        "os": _os(),
        "isa": isa_names(flags, architecture),
        "gpu": _gpu(),
    }


def _version(*packages: str) -> str | None:
    """Version of the first of these packages that is installed."""
    for package in packages:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return None


def _os() -> str:
    if platform.system() == "Linux":
        try:
            return f"{platform.freedesktop_os_release()['PRETTY_NAME']} ({platform.system()} {platform.release()})"
        except (OSError, KeyError):  # a minimal container without os-release
            return f"{platform.system()} {platform.release()}"
    return f"{'macOS' if platform.system() == 'Darwin' else platform.system()} {platform.mac_ver()[0] or platform.release()}"


def _board() -> str | None:
    """Name of a single-board computer ("Raspberry Pi 4 Model B"), whose CPU often has no brand string."""
    model = Path("/proc/device-tree/model")
    return model.read_text(errors="replace").strip("\0 \n") if model.is_file() else None


def _apple_features() -> list[str]:
    """ARM features on macOS, which has no /proc/cpuinfo: the last word of ``hw.optional.arm.FEAT_DotProd: 1``."""
    if platform.system() != "Darwin":
        return []
    lines = (line.partition(":") for line in _answer("sysctl", "hw.optional.arm").splitlines())
    return [key.rpartition(".")[2] for key, _, value in lines if value.strip() == "1"]


def _gpu() -> str | None:
    """Name of the first NVIDIA GPU, or None."""
    lines = _answer("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines()
    return lines[0].strip() if lines else None


def _answer(program: str, *arguments: str) -> str:
    """Standard output of a small system tool; empty where it is absent, fails or hangs (a broken driver can make nvidia-smi hang)."""
    path = which(program)
    if path is None:
        return ""
    try:
        done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
