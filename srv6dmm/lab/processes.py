"""Processes of a lab: on record before they run, ended by pid and start time only."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from srv6dmm.lab.names import LabError
from srv6dmm.lab.record import Directory, ProcessRecord

TERM_S = 5.0
"""Seconds a process may take to end after SIGTERM; then SIGKILL."""
_KILL_S = 5.0
_LOOK_S = 0.01
# The shell waits for a word before it becomes the process: should we die before the process is
# on record, the word never comes and the shell ends.
_GATE = 'read -r go && exec "$@" </dev/null'


def start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None when it is not running."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name is in parentheses and may hold anything, parentheses too.
    fields = text[text.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else int(fields[19])


def running(process: ProcessRecord) -> bool:
    """Tell whether this very process runs (not another one with its pid)."""
    return start_time(process.pid) == process.start_time


def end(processes: Sequence[ProcessRecord], term_s: float = TERM_S) -> list[ProcessRecord]:
    """End processes, SIGTERM first, all at once; return those that needed SIGKILL.

    Raises LabError when one does not even end by that.
    """
    handles = {
        process.name: (process, handle)
        for process in processes
        if (handle := _open(process)) is not None
    }
    try:
        _signal(list(handles.values()), signal.SIGTERM)
        left = _wait(list(handles.values()), term_s)
        _signal(left, signal.SIGKILL)
        stuck = _wait(left, _KILL_S)
        if stuck:
            names = ", ".join(f"{process.name} (pid {process.pid})" for process, _ in stuck)
            raise LabError(f"cannot end {names}: not even by SIGKILL")
        return [process for process, _ in left]
    finally:
        for process, handle in handles.values():
            os.close(handle)
            _reap(process.pid)


class Processes:
    """Starts, watches and ends the processes of one lab, by name."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._offsets: dict[str, int] = {}
        """Where in its log the present life of a process begins."""

    def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> ProcessRecord:
        """Start a process; its output goes to NAME.log, after what is there already.

        `environment` is added to ours. Raises LabError when one of that name runs.
        """
        known = self._directory.load().processes.get(name)
        if known is not None and running(known):
            raise LabError(f"{name} runs already, with pid {known.pid}")
        log = self.log(name)
        with log.open("ab") as output:
            self._offsets[name] = output.tell()
            child = subprocess.Popen(
                ["/bin/sh", "-c", _GATE, "sh", *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
                start_new_session=True,
            )
        assert child.stdin is not None
        started = start_time(child.pid)
        if started is None:
            raise LabError(f"{name} did not start; {log} may say why")
        process = ProcessRecord(name, child.pid, started, list(command), str(log))
        self._directory.add_process(process)
        self._children[child.pid] = child
        with suppress(BrokenPipeError):
            child.stdin.write(b"go\n")
            child.stdin.close()
        return process

    def log(self, name: str) -> Path:
        """Return the log file of a process."""
        return self._directory.logs / f"{name}.log"

    def tail(self, name: str, lines: int = 20) -> str:
        """Return the last lines of a process's log."""
        try:
            text = self.log(name).read_text(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def get(self, name: str) -> ProcessRecord:
        """Return the process of a name. Raises LabError when there is none."""
        known = self._directory.load().processes
        try:
            return known[name]
        except KeyError:
            raise LabError(
                f"no process {name!r} in this lab; it has {', '.join(sorted(known)) or 'none'}"
            ) from None

    def names(self) -> list[str]:
        """Return the names of all processes on record, sorted."""
        return sorted(self._directory.load().processes)

    def alive(self, name: str) -> bool:
        """Tell whether the process of a name runs."""
        process = self._directory.load().processes.get(name)
        return process is not None and running(process)

    def wait_for_word(self, name: str, word: str, timeout_s: float) -> None:
        """Wait until a process has written a line with just this word.

        Raises LabError with the end of its log when it ends before, or takes too long.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            alive = self.alive(name)  # before the log is read: the last words count
            with self.log(name).open("rb") as file:
                file.seek(self._offsets.get(name, 0))
                if word.encode() in file.read().splitlines():
                    return
            if not alive or time.monotonic() > deadline:
                what = f"took longer than {timeout_s:g} s to say" if alive else "ended before"
                raise LabError(f"{name} {what} {word!r}; its log ends:\n{self.tail(name)}")
            time.sleep(_LOOK_S)

    def wait(self, name: str, timeout_s: float) -> bool:
        """Wait until a process ends; tell whether it did."""
        handle = _open(self.get(name))
        if handle is None:
            return True
        try:
            return not _wait([(self.get(name), handle)], timeout_s)
        finally:
            os.close(handle)

    def signal(self, name: str, number: int) -> None:
        """Send a signal. Raises LabError when the process does not run."""
        process = self.get(name)
        handle = _open(process)
        if handle is None:
            raise LabError(f"{name} does not run; its log ends:\n{self.tail(name)}")
        try:
            signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)

    def kill(self, name: str) -> ProcessRecord:
        """End a process by SIGKILL, as a crash does, and return when it is gone."""
        process = self.get(name)
        handle = _open(process)
        if handle is None:
            raise LabError(f"{name} does not run; its log ends:\n{self.tail(name)}")
        try:
            _signal([(process, handle)], signal.SIGKILL)
            if _wait([(process, handle)], _KILL_S):
                raise LabError(f"cannot end {name} (pid {process.pid})")
        finally:
            os.close(handle)
        self._forget(process)
        return process

    def stop(self, *names: str, term_s: float = TERM_S) -> list[str]:
        """End processes in good order; return the names of those that needed SIGKILL."""
        known = self._directory.load().processes
        chosen = [known[name] for name in names if name in known]
        forced = end(chosen, term_s)
        for process in chosen:
            self._forget(process)
        return [process.name for process in forced]

    def stop_all(self) -> list[str]:
        """End every process of the lab; return the names of those that needed SIGKILL."""
        return self.stop(*self.names())

    def _forget(self, process: ProcessRecord) -> None:
        child = self._children.pop(process.pid, None)
        if child is not None:
            child.wait()
        self._directory.forget_process(process)


_Handle = tuple[ProcessRecord, int]


def _open(process: ProcessRecord) -> int | None:
    """Return a handle that stays that of this very process; None when it does not run."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    if running(process):  # asked after the handle was taken: the handle cannot be another's
        return handle
    os.close(handle)
    return None


def _signal(handles: Sequence[_Handle], number: int) -> None:
    for _, handle in handles:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, number)


def _wait(handles: Sequence[_Handle], timeout_s: float) -> list[_Handle]:
    """Return those that still run after a time."""
    poll = select.poll()
    left = {handle: (process, handle) for process, handle in handles}
    for handle in left:
        poll.register(handle, select.POLLIN)
    deadline = time.monotonic() + timeout_s
    while left and (rest := deadline - time.monotonic()) > 0:
        for handle, _ in poll.poll(rest * 1000):
            poll.unregister(handle)
            del left[handle]
    return list(left.values())


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
