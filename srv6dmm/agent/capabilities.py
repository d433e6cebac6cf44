"""What this host's kernel can do, probed once per boot."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from srv6dmm import __version__

CACHE = Path("/run/srv6dmm/capabilities.json")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def known(
    probe: Callable[[], dict[str, bool]] | None = None,
    cache: Path = CACHE,
    boot_id: str | None = None,
) -> dict[str, bool]:
    """Return capability -> whether the kernel has it; `probe` asks it (default: the real one).

    The cache is a convenience only: what cannot be read is probed again, what cannot be written
    is not kept. Raises what the probe raises.
    """
    from srv6dmm import codec

    boot = f"{boot_id or _BOOT_ID.read_text().strip()} {__version__}"
    try:
        kept_for, able = codec.decode(cache.read_bytes(), tuple[str, dict[str, bool]])
    except (OSError, ValueError):
        kept_for, able = "", {}
    if kept_for == boot:
        return able
    if probe is None:
        from srv6dmm.dataplane.probe import capabilities

        probe = capabilities
    able = probe()
    _keep(cache, codec.encode((boot, able)))
    return able


def _keep(cache: Path, data: bytes) -> None:
    """Write whole or not at all: several agents start at once, and any may be killed."""
    try:
        cache.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=cache.parent, prefix=f".{cache.name}.")
    except OSError:
        return
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(temporary).replace(cache)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
