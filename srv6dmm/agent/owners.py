"""Which plan entries want a kernel object, and how it is to be."""

from __future__ import annotations

from srv6dmm.dataplane.objects import Identity, KernelObject


class Owners:
    """Identity -> the entries that want it, by key; the last one says how the object is to be.

    Nearly all have one: a mapping for each would weigh more than all the rest of a large plan.
    """

    def __init__(self) -> None:
        self._one: dict[Identity, tuple[str, KernelObject]] = {}
        self._several: dict[Identity, dict[str, KernelObject]] = {}

    def clear(self) -> None:
        """Forget everything."""
        self._one.clear()
        self._several.clear()

    def __contains__(self, identity: Identity) -> bool:
        return identity in self._one or identity in self._several

    def add(self, identity: Identity, key: str, item: KernelObject) -> None:
        """Note that an entry wants an object to be so; of several it is the last now."""
        several = self._several.get(identity)
        if several is None:
            one = self._one.get(identity)
            if one is None or one[0] == key:
                self._one[identity] = key, item
                return
            del self._one[identity]
            several = self._several[identity] = dict((one,))
        several.pop(key, None)
        several[key] = item

    def remove(self, identity: Identity, key: str) -> None:
        """Note that an entry does not want an object any more."""
        several = self._several.get(identity)
        if several is None:
            one = self._one.get(identity)
            if one is not None and one[0] == key:
                del self._one[identity]
            return
        several.pop(key, None)
        if len(several) == 1:
            del self._several[identity]
            [self._one[identity]] = several.items()

    def wanted(self, identity: Identity) -> KernelObject:
        """Return how an object is to be. Raises KeyError when nobody wants it."""
        one = self._one.get(identity)
        return one[1] if one is not None else next(reversed(self._several[identity].values()))

    def keys(self, identity: Identity) -> tuple[str, ...]:
        """Return the keys of the entries that want an object, the last one last."""
        one = self._one.get(identity)
        return (one[0],) if one is not None else tuple(self._several.get(identity, ()))
