"""What is on record about a lab: enough to take it down after any crash."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from srv6dmm.lab.names import LabError, check_lab_name

RUN = Path("/run/srv6dmm/lab")
STATE = Path("/var/lib/srv6dmm/lab")
"""Where the controller's store lies: on a disk, so that durable means what it says."""


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """A process that belongs to a lab. A pid may be reused; pid and start time are not."""

    name: str
    pid: int
    start_time: int
    """Clock ticks since boot (field 22 of /proc/PID/stat)."""
    command: list[str]
    log: str


@dataclass(frozen=True, slots=True)
class LabRecord:
    """One lab. `namespaces` is node -> namespace, written before the first one is made."""

    name: str
    topology_source: str
    topology_text: str
    namespaces: dict[str, str]
    complete: bool = False
    """Whether `lab up` reached its end."""
    port: int = 0
    """TCP port on loopback of the controller's API; 0: there is no controller."""
    processes: dict[str, ProcessRecord] = field(default_factory=dict)


class Directory:
    """The files of one lab: NAME.json, and NAME/ with the socket, logs and results."""

    def __init__(self, name: str, run: Path = RUN, state: Path = STATE) -> None:
        self.name = check_lab_name(name)
        self.file = run / f"{name}.json"
        self.path = run / name
        self.logs = self.path / "logs"
        self.socket = self.path / "controller.sock"
        self.store = state / f"{name}.sqlite3"

    def create(self, record: LabRecord) -> None:
        """Claim the lab's name. Raises LabError when there is a lab of that name."""
        try:
            self.logs.mkdir(mode=0o755, parents=True, exist_ok=True)
            self.store.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            # Linked into place whole: a record cut short by a crash could not be taken down.
            draft = self._draft(record)
            try:
                os.link(draft, self.file)
            finally:
                draft.unlink()
        except FileExistsError:
            raise LabError(
                f"there is a lab {self.name!r} already; "
                f"`srv6dmm lab down --name {self.name}` takes it down"
            ) from None
        except OSError as error:
            raise LabError(
                f"cannot write {self.file}: {error.strerror} (root is needed)"
            ) from error

    def load(self) -> LabRecord:
        """Return the record. Raises LabError when there is no such lab."""
        try:
            return msgspec.json.decode(self.file.read_bytes(), type=LabRecord)
        except FileNotFoundError:
            raise LabError(
                f"there is no lab {self.name!r}; `srv6dmm lab status` lists them"
            ) from None
        except (OSError, msgspec.MsgspecError) as error:
            raise LabError(f"{self.file} cannot be read: {error}") from error

    def _unknown(self) -> LabError:
        return LabError(f"there is no lab {self.name!r}; `srv6dmm lab status` lists them")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from changing the record meanwhile."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise LabError(
                f"there is no lab {self.name!r}; `srv6dmm lab status` lists them"
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def update(self, **changes: object) -> LabRecord:
        """Change fields of the record, atomically."""
        with self.locked():
            return self._write(replace(self.load(), **changes))  # type: ignore[arg-type]

    def add_process(self, process: ProcessRecord) -> None:
        """Put a process on record."""
        with self.locked():
            record = self.load()
            self._write(replace(record, processes=record.processes | {process.name: process}))

    def forget_process(self, process: ProcessRecord) -> None:
        """Take a process off the record, unless another one has its name by now."""
        with self.locked():
            record = self.load()
            if record.processes.get(process.name) == process:
                left = {
                    name: kept for name, kept in record.processes.items() if name != process.name
                }
                self._write(replace(record, processes=left))

    def remove(self) -> None:
        """Remove every file of the lab; the record goes last."""
        # The store keeps files beside its own: write-ahead log, shared memory, lock.
        for file in self.store.parent.glob(f"{self.store.name}*"):
            file.unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)
        self.file.unlink(missing_ok=True)

    def _write(self, record: LabRecord) -> LabRecord:
        self._draft(record).replace(self.file)
        return record

    def _draft(self, record: LabRecord) -> Path:
        draft = self.path / f".{self.name}.{os.getpid()}.json"
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(record)))
        return draft


def lab_names(run: Path = RUN) -> list[str]:
    """Return the names of all labs on record, sorted."""
    return sorted(file.stem for file in run.glob("*.json"))
