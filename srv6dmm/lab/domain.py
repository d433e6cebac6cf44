"""The control service and one agent per router of a lab, as real processes."""

from __future__ import annotations

import json
import signal
import socket
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from srv6dmm.config import Mode
from srv6dmm.lab.names import LabError
from srv6dmm.lab.network import Lab
from srv6dmm.lab.processes import Processes

if TYPE_CHECKING:
    import httpx

CONTROLLER = "controller"
READY_S = 40.0
_LOOK_S = 0.02
_MAIN = (sys.executable, "-m", "srv6dmm.cli.main")
_FIRST, _SECOND = ("nice", "-n", "-10"), ("nice", "-n", "-5")
"""Daemons go before the lab's traffic, as on a router; the controller is never preempted by the
agent it has just woken while it has others to tell."""


def agent_name(router: str) -> str:
    """Return the name of a router's agent among the lab's processes."""
    return f"agent-{router}"


class LabDomain:
    """Controller and agents of one lab; reaches the API by the controller's Unix socket."""

    def __init__(
        self, lab: Lab, processes: Processes | None = None, mode: Mode = "netlink"
    ) -> None:
        self.lab = lab
        self.mode = mode
        self.detected: dict[str, str] | None = None
        """Link-layer address -> mobile node that routers are to detect; None: none are."""
        self.processes = processes or Processes(lab.directory)
        self._client: httpx.Client | None = None

    @property
    def client(self) -> httpx.Client:
        """An HTTP client on the controller's socket; paths begin at the root. Thread-safe."""
        if self._client is None:
            import httpx

            self._client = httpx.Client(
                base_url="http://controller",
                transport=httpx.HTTPTransport(uds=str(self.lab.directory.socket), retries=0),
                timeout=httpx.Timeout(70.0, connect=5.0),
            )
        return self._client

    def close(self) -> None:
        """Close the HTTP client; the processes go on."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def start(self, timeout_s: float = READY_S) -> None:
        """Start the controller and all agents; return when every router has its plan.

        Raises LabError with the end of the log of what failed.
        """
        self.start_controller()
        for router in self.lab.topology.routers():
            self.start_agent(router.name)
        self.wait_ready(timeout_s)

    def start_controller(self) -> None:
        """Start the controller and do not wait. Keeps its TCP port over restarts."""
        detect = self.detected is not None
        directory = self.lab.directory
        port = directory.load().port
        if not port:
            port = _free_port()
            directory.update(port=port)
        topology = directory.path / "topology.yaml"
        if not topology.exists():
            topology.write_text(self.lab.text)
        self.processes.start(
            CONTROLLER,
            [*_FIRST, *_MAIN, "controller"],
            {
                "SRV6DMM_TOPOLOGY": str(topology),
                "SRV6DMM_HTTP__HOST": "127.0.0.1",
                "SRV6DMM_HTTP__PORT": str(port),
                "SRV6DMM_HTTP__UNIX_SOCKET": str(directory.socket),
                "SRV6DMM_STORE__PATH": str(directory.store),
                **({"SRV6DMM_DETECTION__NODES": json.dumps(self.detected)} if detect else {}),
            },
        )

    def start_agent(self, router: str) -> None:
        """Start the agent of a router and do not wait."""
        self.processes.start(
            agent_name(router),
            [
                *(*_SECOND, *_MAIN, "agent"),
                *("--router", router),
                *("--controller", f"ws+unix://{self.lab.directory.socket}"),
                *("--netns", self.lab.namespace(router)),
                *("--mode", self.mode),
            ],
            {"SRV6DMM_AGENT_DETECT": "nd"} if self.detected is not None else None,
        )

    def restart(self, name: str) -> None:
        """Start `controller` or `agent-ROUTER` again and do not wait."""
        if name == CONTROLLER:
            self.start_controller()
        else:
            self.start_agent(name.removeprefix("agent-"))

    def kill(self, name: str) -> None:
        """End `controller` or `agent-ROUTER` by SIGKILL, as a crash does."""
        self.processes.kill(name)

    def stop(self) -> list[str]:
        """End agents and controller in good order; return the names that needed SIGKILL."""
        names = self.processes.names()
        self.close()
        forced = self.processes.stop(*(name for name in names if name.startswith("agent-")))
        return forced + self.processes.stop(*(name for name in names if name == CONTROLLER))

    def routers(self) -> list[dict[str, Any]]:
        """Return what the controller knows of every router."""
        found: list[dict[str, Any]] = self.get("/v1/routers")["routers"]
        return found

    def get(self, path: str) -> dict[str, Any]:
        """Return the JSON object at a path of the API. Raises LabError."""
        import httpx

        try:
            answer = self.client.get(path)
        except httpx.TransportError as error:
            raise LabError(f"controller: no answer to GET {path}: {error}") from error
        if not answer.is_success:
            raise LabError(f"controller: GET {path}: {answer.status_code} {answer.text}")
        body: dict[str, Any] = answer.json()
        return body

    def unready(self) -> list[str]:
        """Return why not every router has its plan, a sentence each; [] when all have.

        Raises LabError when the controller does not answer.
        """
        return _unready(self.routers(), [router.name for router in self.lab.topology.routers()])

    def wait_ready(self, timeout_s: float = READY_S) -> None:
        """Wait until every router is connected and has applied its plan without failure.

        Raises LabError saying who is not there, with the end of a log.
        """
        deadline = time.monotonic() + timeout_s
        names = [CONTROLLER, *(agent_name(r.name) for r in self.lab.topology.routers())]
        while True:
            for name in names:
                if not self.processes.alive(name):
                    raise LabError(f"{name} ended; its log ends:\n{self.processes.tail(name)}")
            try:
                reasons, culprit = self.unready(), CONTROLLER
                if not reasons:
                    return
                culprit = agent_name(reasons[0].partition(" ")[0])
            except LabError as error:
                reasons, culprit = [str(error)], CONTROLLER
            if time.monotonic() > deadline:
                raise LabError(
                    f"lab {self.lab.name!r} is not ready after {timeout_s:g} s: "
                    f"{'; '.join(reasons)}\nlog of {culprit} ends:\n{self.processes.tail(culprit)}"
                )
            time.sleep(_LOOK_S)

    def interrupt(self, name: str) -> None:
        """Freeze a process (SIGSTOP), as a host that hangs does; `resume` lets it go on."""
        self.processes.signal(name, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Let a frozen process go on."""
        self.processes.signal(name, signal.SIGCONT)


def _unready(statuses: Sequence[dict[str, Any]], routers: Sequence[str]) -> list[str]:
    known = {str(status["name"]): status for status in statuses}
    reasons = []
    for name in routers:
        status = known.get(name)
        if status is None or not status["connected"]:
            reasons.append(f"{name} is not connected")
        elif status["failures"]:
            reasons.append(f"{name} could not apply its plan: {status['failures']}")
        elif status["applied"] is None or status["applied"] < status["target"]:
            reasons.append(f"{name} has applied {status['applied']} of {status['target']}")
    return reasons


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
