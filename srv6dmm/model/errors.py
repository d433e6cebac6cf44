"""Errors: what was wrong, where, and what to do, as values the edges can render."""

from __future__ import annotations

from dataclasses import dataclass, field


class Srv6dmmError(Exception):
    """Base of every error this project raises on purpose."""


@dataclass(eq=False)
class Refusal(Srv6dmmError):
    """A request that changes nothing, with a stable machine-readable `type`.

    `type` is the last part of the RFC 9457 problem type and never changes its meaning.
    `status` is the HTTP status at the edge. `binding_status` is the RFC 5213 section 8.9 /
    RFC 6275 section 6.1.8 status code where one exists. `detail` is a sentence for people: what
    was wrong, where, what to do. `extra` holds further members of the problem document.
    """

    type: str
    detail: str
    status: int = 409
    binding_status: int | None = None
    extra: dict[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.type}: {self.detail}"


class StoreError(Srv6dmmError):
    """The store could not do what was asked; the state is what it was before."""


class StoreConflict(StoreError):
    """Compare-and-set failed: somebody else committed first."""


class StoreUnavailable(StoreError):
    """The store cannot be written or read now (disk full, read-only, corrupt)."""


class StoreInUse(StoreUnavailable):
    """Another process has the store; it is that one's to answer."""


@dataclass(eq=False)
class TopologyError(Srv6dmmError):
    """One fault in a topology file: where it is and what to do."""

    source: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.key}: {self.message}"
