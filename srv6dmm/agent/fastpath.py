"""Whether this agent has a fast path: loaded, adopted, or taken away."""

from __future__ import annotations

import structlog

from srv6dmm.config import Mode
from srv6dmm.dataplane.fastpath import loader, pins
from srv6dmm.dataplane.fastpath.kernel import FastPath
from srv6dmm.model.errors import Srv6dmmError

log = structlog.get_logger()


def open_fast_path(mode: Mode, network_namespace: str | None) -> FastPath | None:
    """Return the fast path of a namespace, or None where it is not wanted or cannot be had.

    Entries of an earlier run are adopted, and the programs replaced in place. Takes a second or
    two; until then, and without it, the kernel's routes forward. Raises LoadError or OSError in
    mode `ebpf` when it cannot be had.
    """
    if mode == "netlink":
        retire(network_namespace)
        return None
    try:
        pins.mount()
        pins.sweep()
        place = pins.directory(network_namespace)
        loader.load(place)
        fast = FastPath(network_namespace, place)
    except (Srv6dmmError, OSError) as error:
        if mode == "ebpf":
            raise
        log.warning("fastpath.unavailable", reason=str(error), mode="netlink")
        retire(network_namespace)
        return None
    pins.remove(network_namespace, keep=place)
    return fast


def retire(network_namespace: str | None) -> None:
    """Detach what an earlier run attached and unpin it; the kernel's routes are complete."""
    home = pins.home(network_namespace)
    if not home.is_dir():
        return
    for place in home.iterdir():
        try:
            fast = FastPath(network_namespace, place)
        except OSError as error:
            log.warning("fastpath.unreadable", pins=str(place), error=str(error))
            continue
        try:
            fast.retire()
        finally:
            fast.close()
    pins.remove(network_namespace)
    log.info("fastpath.retired", pins=str(home))
