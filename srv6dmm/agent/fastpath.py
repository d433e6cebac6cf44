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
        return load_fast_path(network_namespace)
    except (Srv6dmmError, OSError) as error:
        if mode == "ebpf":
            raise
        log.warning("fastpath.unavailable", reason=str(error), mode="netlink")
        retire(network_namespace)
        return None


def load_fast_path(network_namespace: str | None) -> FastPath:
    """Return the fast path of a namespace, loaded or adopted. Raises LoadError or OSError."""
    pins.mount()
    pins.sweep()
    place = pins.directory(network_namespace)
    loader.load(place)
    fast = FastPath(network_namespace, place)
    fast.tidy()
    pins.remove(network_namespace, keep=place)
    return fast


def retire(network_namespace: str | None) -> None:
    """Detach what an earlier run attached and unpin it; the kernel's routes are complete."""
    found = present(network_namespace)
    for fast in found:
        try:
            fast.retire()
        finally:
            fast.close()
    pins.remove(network_namespace)
    if found:
        log.info("fastpath.retired", pins=str(pins.home(network_namespace)))


def present(network_namespace: str | None) -> list[FastPath]:
    """Return what is pinned of a namespace, to look at: mostly one, or none."""
    home = pins.home(network_namespace)
    found: list[FastPath] = []
    for place in sorted(home.iterdir()) if home.is_dir() else ():
        try:
            found.append(FastPath(network_namespace, place))
        except OSError as error:
            log.warning("fastpath.unreadable", pins=str(place), error=str(error))
    return found
