"""What the kernel can do is asked once per boot, and again when the answer cannot be trusted."""

from __future__ import annotations

from pathlib import Path

import pytest

from srv6dmm.agent.capabilities import known


class _Probe:
    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> dict[str, bool]:
        self.asked += 1
        return {"encap_red": True, "psp": False}


def test_asked_once_per_boot(tmp_path: Path) -> None:
    probe, cache = _Probe(), tmp_path / "run" / "capabilities.json"
    for _ in range(3):
        assert known(probe, cache, "boot-1") == {"encap_red": True, "psp": False}
    assert probe.asked == 1
    known(probe, cache, "boot-2")
    assert probe.asked == 2
    assert [path.name for path in cache.parent.iterdir()] == [cache.name]


@pytest.mark.parametrize("rubbish", [b"", b"{", b"[]", b'["boot-1", 3]', b"\xff"])
def test_a_spoilt_cache_is_no_answer(tmp_path: Path, rubbish: bytes) -> None:
    probe, cache = _Probe(), tmp_path / "capabilities.json"
    cache.write_bytes(rubbish)
    assert known(probe, cache, "boot-1")["encap_red"]
    assert probe.asked == 1
    known(probe, cache, "boot-1")
    assert probe.asked == 1


def test_a_place_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    probe, cache = _Probe(), tmp_path / "file" / "capabilities.json"
    cache.parent.write_text("a file, not a directory")
    assert known(probe, cache, "boot-1")["encap_red"]
    known(probe, cache, "boot-1")
    assert probe.asked == 2


def test_a_probe_that_fails_keeps_nothing(tmp_path: Path) -> None:
    cache = tmp_path / "capabilities.json"

    def failing() -> dict[str, bool]:
        raise PermissionError("needs root")

    with pytest.raises(PermissionError):
        known(failing, cache, "boot-1")
    assert not cache.exists()
