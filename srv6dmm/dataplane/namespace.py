"""Named network namespaces, kept the way `ip netns` keeps them (/run/netns/NAME)."""

from __future__ import annotations

import ctypes
import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from srv6dmm.model.errors import Srv6dmmError

DIRECTORY = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_REC, _MS_SHARED = 0x1000, 0x4000, 0x100000
_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


class NamespaceError(Srv6dmmError):
    """A network namespace could not be made, entered or removed."""


def path(name_or_path: str) -> Path:
    """Return the file of a namespace: a name below /run/netns, or a path as it is."""
    if "/" in name_or_path:
        return Path(name_or_path)
    if name_or_path in ("", ".", ".."):
        raise NamespaceError(f"{name_or_path!r} is no name for a network namespace")
    return DIRECTORY / name_or_path


def exists(name: str) -> bool:
    """Tell whether a namespace of this name is there (also one `ip netns` made)."""
    return path(name).exists()


def names(prefix: str = "") -> list[str]:
    """Return the names of all named namespaces that begin with `prefix`, sorted."""
    if not DIRECTORY.is_dir():
        return []
    return sorted(entry.name for entry in DIRECTORY.iterdir() if entry.name.startswith(prefix))


def enter(name_or_path: str) -> None:
    """Move the calling thread into a namespace, for good. Needs CAP_SYS_ADMIN."""
    _setns(_open(name_or_path), name_or_path)


@contextmanager
def inside(name_or_path: str | None) -> Iterator[None]:
    """Run a block inside a namespace and bring the calling thread back; None: stay here.

    Sockets opened in the block stay in the namespace. The block must not await.
    """
    if name_or_path is None:
        yield
        return
    target = _open(name_or_path)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _setns(target, name_or_path)
        try:
            yield
        finally:
            _check(_libc.setns(home, _CLONE_NEWNET), "return to the thread's own namespace")
    finally:
        os.close(home)


def create(name: str) -> None:
    """Make a named namespace (its lo is down). Raises NamespaceError if there is one."""
    target = path(name)
    if "/" in name:
        raise NamespaceError(f"{name!r} is no name for a network namespace: it has a slash")
    DIRECTORY.mkdir(mode=0o755, parents=True, exist_ok=True)
    _share_directory()
    try:
        os.close(os.open(target, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
    except FileExistsError:
        raise NamespaceError(
            f"network namespace {name!r} exists already; `ip netns delete {name}` removes it"
        ) from None
    failure: list[NamespaceError] = []

    def make() -> None:
        # A thread of its own: unshare moves the calling thread, which then ends.
        try:
            _check(_libc.unshare(_CLONE_NEWNET), f"make network namespace {name!r}")
            _mount("/proc/thread-self/ns/net", target, _MS_BIND, f"bind it to {target}")
        except NamespaceError as error:
            failure.append(error)

    thread = threading.Thread(target=make, name=f"netns-{name}")
    thread.start()
    thread.join()
    if failure:
        target.unlink()
        raise failure[0]


def remove(name: str) -> None:
    """Remove a named namespace; one that is not there is no error.

    The kernel takes it down when the last process and socket in it is gone.
    """
    target = path(name)
    if not target.exists():
        return
    # Not mounted (EINVAL) is what a creation cut short leaves: only the file goes then.
    _libc.umount2(os.fsencode(target), _MNT_DETACH)
    try:
        target.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        raise NamespaceError(f"network namespace {name!r} cannot be removed: {error}") from error


def _open(name_or_path: str) -> int:
    target = path(name_or_path)
    try:
        return os.open(target, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NamespaceError(
            f"no network namespace {name_or_path!r} ({target}: {error.strerror}); "
            "`ip netns list` shows what there is"
        ) from error


def _setns(descriptor: int, name: str) -> None:
    try:
        _check(_libc.setns(descriptor, _CLONE_NEWNET), f"enter network namespace {name!r}")
    finally:
        os.close(descriptor)


def _share_directory() -> None:
    """Make /run/netns a shared mount, so that other mount namespaces see what comes and goes.

    Under the lock that `ip netns` takes too: two at once would mount it over itself twice.
    """
    directory = os.open(DIRECTORY, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        if _libc.mount(b"", os.fsencode(DIRECTORY), b"none", _MS_SHARED | _MS_REC, None) != 0:
            _mount(str(DIRECTORY), DIRECTORY, _MS_BIND | _MS_REC, f"bind {DIRECTORY} to itself")
            _mount("", DIRECTORY, _MS_SHARED | _MS_REC, f"share {DIRECTORY}")
    finally:
        os.close(directory)


def _mount(source: str, target: Path, flags: int, doing: str) -> None:
    result = _libc.mount(os.fsencode(source), os.fsencode(target), b"none", flags, None)
    _check(result, doing)


def _check(result: int, doing: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise NamespaceError(
            f"cannot {doing}: {os.strerror(number)} (root or CAP_SYS_ADMIN is needed)"
        )
