"""ONNX Runtime's C# interface, built for Mono from its own sources, which an npm package for Unity ships.

They are written in a C# that Mono's compiler does not know. What it does not know is put into older words, without another meaning.
"""

import re
import shutil
import subprocess
import tarfile
from pathlib import Path

from gleanet.data import cache_dir
from gleanet.data.download import fetch

VERSION = "0.4.9"  # of ONNX Runtime 1.29
URL = f"https://registry.npmjs.org/com.github.asus4.onnxruntime/-/com.github.asus4.onnxruntime-{VERSION}.tgz"  # 150 MB, 1 MB is used
# The registry's "integrity" of this version, from base64 to hexadecimal.
SHA512 = "064cf176e499f4891e0cfe90f25cf64c553689eee1492bd2ed921fccca28131a2ad02373267bae19a509ec8b288c182a3b8a2e0f58d76a1f0e63225b08ddbd16"
ASSEMBLY = "Microsoft.ML.OnnxRuntime.dll"
_OLDER = (
    (r"\bis null\b", "== null"),
    (r"if \((\S+) is not (\w+)\)", r"if (!(\1 is \2))"),
    (r"\busing var ", "var "),
    (r"\(static (\w+ =>)", r"(\1"),
    (r"\b(\w+<\w+>) (\w+) = new\(", r"\1 \2 = new \1("),
    (r": unmanaged\b", ": struct"),
    (r"(?m)^( +)([A-Za-z.]+)\.Span\[(\w+)\] = (.*);", r"\1{ var older = \2.Span; older[\3] = \4; }"),
    (r"(?m)^( +)(\w+\[\w+\]) = (\w+\[\w+\]) = (\w+);", r"\1\2 = \4; \3 = \4;"),
)


def build_assembly(folder: Path) -> Path:
    """Compile the assembly into ``folder``, with ``mcs``.

    Raises:
        DataError: the sources are not in the user's cache, and cannot be downloaded.
    """
    sources = cache_dir() / f"onnxruntime-csharp-{VERSION}"
    if not sources.is_dir():
        archive = fetch(URL, f"sha512:{SHA512}", cache_dir() / f"onnxruntime-csharp-{VERSION}.tgz")
        _unpack(archive, sources)
        archive.unlink()
    for path in sources.glob("*.cs"):
        text = path.read_text("utf-8-sig")
        for new, old in _OLDER:
            text = re.sub(new, old, text)
        (folder / path.name).write_text(text, "utf-8")
    # NETSTANDARD2_0 is what Microsoft's package of the interface is built for, too.
    words = ["mcs", "-langversion:latest", "-unsafe", "-define:NETSTANDARD2_0", "-target:library", f"-out:{ASSEMBLY}", "*.cs"]
    subprocess.run(words, cwd=folder, check=True, capture_output=True, timeout=300)
    return folder / ASSEMBLY


def _unpack(archive: Path, target: Path) -> None:
    """The sources without those of training, all in one folder, which appears whole or not at all."""
    scratch = target.with_name(f"{target.name}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    with tarfile.open(archive) as tar:
        for member in tar:
            content = tar.extractfile(member) if re.fullmatch(r"package/Runtime/(Tensors/)?\w+\.shared\.cs", member.name) else None
            if content is not None:
                (scratch / Path(member.name).name).write_bytes(content.read())
    scratch.replace(target)
