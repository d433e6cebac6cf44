"""The kernel's own objects and the fast path's entries behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from srv6dmm.dataplane.fastpath.kernel import FastPath
from srv6dmm.dataplane.fastpath.objects import FastObject, is_fast
from srv6dmm.dataplane.kernel import Kernel
from srv6dmm.dataplane.linux import LinuxKernel
from srv6dmm.dataplane.objects import Identity, KernelFailure, KernelObject, NativeObject


class CombinedKernel(Kernel):
    """One network namespace. Without a fast path there is nothing of it to read or delete."""

    def __init__(self, linux: LinuxKernel, fast: FastPath | None = None) -> None:
        self._linux = linux
        self.fast = fast

    def put(self, objects: Sequence[KernelObject]) -> list[KernelFailure]:
        """Put routes first, short cuts past them afterwards."""
        native, fast = _split(objects)
        failures = self._linux.put(native) if native else []
        if fast:
            failures += self._fast_path().put(fast)
        return failures

    def delete(self, objects: Sequence[KernelObject]) -> list[KernelFailure]:
        """Delete short cuts first."""
        native, fast = _split(objects)
        failures = self._fast_path().delete(fast) if fast else []
        return failures + (self._linux.delete(native) if native else [])

    def read(self, wanted: Iterable[Identity] | None = None) -> dict[Identity, KernelObject]:
        """Read back what is ours of both."""
        found: dict[Identity, KernelObject] = {}
        if wanted is None:
            found.update(self._linux.read())
            if self.fast is not None:
                found.update(self.fast.read())
            return found
        native: list[Identity] = []
        fast: list[Identity] = []
        for identity in wanted:
            (fast if is_fast(identity) else native).append(identity)
        if native:
            found.update(self._linux.read(native))
        if fast:
            found.update(self._fast_path().read(fast))
        return found

    def sid_counters(self) -> dict[str, tuple[int, int, int]]:
        """Return SID -> (packets, bytes, errors), of both together."""
        counted = self._linux.sid_counters()
        if self.fast is not None:
            for sid, (packets, octets) in self.fast.sid_counters().items():
                before = counted.get(sid, (0, 0, 0))
                counted[sid] = (before[0] + packets, before[1] + octets, before[2])
        return counted

    def counted(self, objects: Iterable[KernelObject]) -> tuple[int, int, int] | None:
        """Return what objects of both counted together; the fast path knows no errors."""
        native, fast = _split(list(objects))
        slow = self._linux.counted(native)
        quick = self.fast.counted_by(fast) if fast and self.fast is not None else None
        if slow is None or quick is None:
            return slow if quick is None else (*quick, 0)
        return slow[0] + quick[0], slow[1] + quick[1], slow[2]

    def subscribe(self, changed: Callable[[], None]) -> int:
        """Open a monitor; nothing but a read-back notices changes of maps."""
        return self._linux.subscribe(changed)

    def drain(self) -> None:
        """Read what the monitor has."""
        self._linux.drain()

    def close(self) -> None:
        """Close what is open; objects and entries stay."""
        self._linux.close()
        if self.fast is not None:
            self.fast.close()

    def _fast_path(self) -> FastPath:
        if self.fast is None:
            raise ValueError("there is no fast path: load it first")
        return self.fast


def _split(objects: Sequence[KernelObject]) -> tuple[list[NativeObject], list[FastObject]]:
    native: list[NativeObject] = []
    fast: list[FastObject] = []
    for item in objects:
        if isinstance(item, FastObject):
            fast.append(item)
        else:
            native.append(item)
    return native, fast
