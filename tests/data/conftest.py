"""Every test of this room has its own cache, no $GLEANET_DATA, and no way to the internet."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "the cache"
    monkeypatch.setenv("GLEANET_CACHE", str(folder))
    monkeypatch.delenv("GLEANET_DATA", raising=False)
    # Port 9 is closed on loopback: whatever asks for a host outside fails at once, offline and in CI alike.
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return folder
