"""axe-core, the accessibility checker: one version from npm, its checksum known, kept in the user's cache. For tests only."""

import tarfile
from pathlib import Path
from typing import Any

import pytest

from gleanet.core.errors import GleanetError
from gleanet.core.files import write_bytes
from gleanet.data import cache_dir
from gleanet.data.download import fetch

VERSION = "4.14.1"
URL = f"https://registry.npmjs.org/axe-core/-/axe-core-{VERSION}.tgz"
# The registry's "integrity" of this version, from base64 to hexadecimal.
SHA512 = "1477dafa598d8d065f273d6af302aa203c02e83131707b7fa648cd41bd3d6b734f8c22a0dab86ee6a6f64b8afbe804b214d36db85a2826965edfb3a0b9d546b5"
RUN = "() => axe.run(document, { resultTypes: ['violations'] }).then(found => found.violations)"


def axe_source() -> str:
    """The checker as a script; the test that asks is skipped where it is not in the cache and cannot be had."""
    script = cache_dir() / f"axe-core-{VERSION}.js"
    if not script.is_file():
        archive = script.with_suffix(".tgz")
        try:
            fetch(URL, f"sha512:{SHA512}", archive)
        except (GleanetError, OSError) as error:
            pytest.skip(f"needs axe-core: {error}")
        write_bytes(script, _script(archive))
        archive.unlink()
    return script.read_text("utf-8")


def _script(archive: Path) -> bytes:
    with tarfile.open(archive, "r:gz") as tar:
        content = tar.extractfile("package/axe.min.js")
        assert content is not None
        with content:
            return content.read()


def violations(page: Any, source: str) -> list[str]:
    """What the checker finds wrong on a page of Playwright, a line each: rule, element, and why."""
    page.evaluate(source)
    return [f"{rule['id']}: {node['target']} {node['failureSummary']}" for rule in page.evaluate(RUN) for node in rule["nodes"]]
