"""The network of a lab: a namespace per node, a veth pair per link, a radio segment."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Interface
from pathlib import Path

from srv6dmm.core.topology import fixed_hosts, parse_topology
from srv6dmm.dataplane import namespace, wiring
from srv6dmm.dataplane.fastpath import pins
from srv6dmm.dataplane.wiring import Cable, CableEnd
from srv6dmm.lab import processes
from srv6dmm.lab.names import (
    AIR,
    PREFIX,
    RADIO,
    LabError,
    cell_ports,
    check_lab_name,
    mobile_ports,
    namespaces,
)
from srv6dmm.lab.radio import Radio
from srv6dmm.lab.record import RUN, STATE, Directory, LabRecord, lab_names
from srv6dmm.model.topology import Role, Topology

_AIR_SYSCTLS = (
    ("net/ipv6/conf/default/disable_ipv6", "1"),
    ("net/ipv6/conf/all/disable_ipv6", "1"),
)
"""The radio segment moves frames and has no voice of its own."""
_HOST_SYSCTLS = (("net/ipv6/conf/default/accept_ra", "0"),)
_MOBILE_SYSCTLS = (("net/ipv6/conf/default/accept_ra", "1"),)


class Lab:
    """One lab: built from a topology by `up`, or found by `open`."""

    def __init__(
        self,
        topology: Topology,
        name: str | None = None,
        *,
        text: str = "",
        source: str = "",
        run: Path = RUN,
        state: Path = STATE,
    ) -> None:
        """Describe a lab; nothing happens yet.

        `text` is the topology file's content, kept on record for the controller and for `open`.
        """
        self.topology = topology
        self.name = check_lab_name(name or topology.domain.name)
        self.text = text
        self.source = source
        self.directory = Directory(self.name, run, state)
        self.namespaces = namespaces(self.name, topology)
        self._radio: Radio | None = None

    @classmethod
    def from_file(
        cls, file: Path, name: str | None = None, *, run: Path = RUN, state: Path = STATE
    ) -> Lab:
        """Describe the lab of a topology file. Raises TopologyErrors, LabError."""
        try:
            text = file.read_text()
        except OSError as error:
            raise LabError(f"{file}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise LabError(f"{file}: {error}") from error
        topology = parse_topology(text, str(file))
        return cls(topology, name, text=text, source=str(file.resolve()), run=run, state=state)

    @classmethod
    def open(cls, name: str, *, run: Path = RUN, state: Path = STATE) -> Lab:
        """Return a lab that is up. Raises LabError when it is not, or only half."""
        record = Directory(name, run, state).load()
        if not record.complete:
            raise LabError(
                f"lab {name!r} did not come up whole; `srv6dmm lab down --name {name}` clears it"
            )
        topology = parse_topology(record.topology_text, record.topology_source)
        return cls(
            topology,
            name,
            text=record.topology_text,
            source=record.topology_source,
            run=run,
            state=state,
        )

    def namespace(self, node: str) -> str:
        """Return the network namespace of a node. Raises LabError for an unknown one."""
        try:
            return self.namespaces[node]
        except KeyError:
            known = ", ".join(self.namespaces)
            raise LabError(f"lab {self.name!r} has no node {node!r}; it has {known}") from None

    @property
    def radio(self) -> Radio:
        """The radio segment's switch."""
        if self._radio is None:
            self._radio = Radio(self.namespaces[AIR], self.topology)
        return self._radio

    def up(self) -> None:
        """Make the namespaces, the links and the hosts' configuration.

        No router is configured: addresses, routes and SIDs are the agents' work. What was
        made is removed again when something fails. Raises LabError, WiringError, NamespaceError.
        """
        taken = [name for name in self.namespaces.values() if namespace.exists(name)]
        if taken and self.name not in lab_names(self.directory.file.parent):
            raise LabError(
                f"network namespace {taken[0]!r} exists; "
                f"`srv6dmm lab down --name {self.name}` removes what an earlier lab left"
            )
        record = LabRecord(self.name, self.source, self.text, self.namespaces)
        self.directory.create(record)
        try:
            self._make()
        except BaseException:
            self.down()
            raise
        self.directory.update(complete=True)

    def _make(self) -> None:
        for name in self.namespaces.values():
            namespace.create(name)
        for node, name in self.namespaces.items():
            wiring.set_up(name, self._sysctls(node))
        wiring.lay(self.cables())
        for router in self.topology.routers():
            for host in fixed_hosts(self.topology, router.name):
                wiring.configure_host(
                    self.namespaces[host.name],
                    self._host_interface(host.name),
                    IPv6Interface((host.host_address, host.prefix.prefixlen)),
                    host.router_address,
                )
        self.radio.prepare()

    def cables(self) -> list[Cable]:
        """Return every veth pair of the lab: links first, then radio ports."""
        cables = [
            Cable(
                CableEnd(self.namespaces[link.a.node], link.a.interface),
                CableEnd(self.namespaces[link.b.node], link.b.interface),
                link.mtu,
            )
            for link in self.topology.links
        ]
        air = self.namespaces[AIR]
        cells, ports = cell_ports(self.topology), mobile_ports(self.topology)
        cables += [
            Cable(
                CableEnd(self.namespaces[router.name], router.access_interface or "acc0"),
                CableEnd(air, cells[router.name]),
            )
            for router in self.topology.access_routers()
        ]
        cables += [
            Cable(
                CableEnd(air, port),
                CableEnd(self.namespaces[name], RADIO, self.topology.nodes[name].mac),
            )
            for name, port in ports.items()
        ]
        return cables

    def down(self, report: Callable[[str], None] = lambda what: None) -> None:
        """Stop the lab's processes and remove all it made; harmless when there is nothing."""
        if self._radio is not None:
            self._radio.close()
            self._radio = None
        take_down(
            self.name,
            run=self.directory.file.parent,
            state=self.directory.store.parent,
            report=report,
        )

    def _sysctls(self, node: str) -> tuple[tuple[str, str], ...]:
        if node == AIR:
            return _AIR_SYSCTLS
        role = self.topology.nodes[node].role
        if role is Role.MOBILE:
            return _MOBILE_SYSCTLS
        return _HOST_SYSCTLS if role is Role.CORRESPONDENT else ()

    def _host_interface(self, host: str) -> str:
        return next(
            end.interface for link in self.topology.links for end in link.ends() if end.node == host
        )


def take_down(
    name: str,
    *,
    run: Path = RUN,
    state: Path = STATE,
    report: Callable[[str], None] = lambda what: None,
) -> None:
    """Remove a lab by name: its processes, namespaces and files, however it came to be.

    Needs no topology, works on half a lab, and does nothing when there is none. Only processes
    on record are ended, each by its pid and start time.
    """
    directory = Directory(name, run, state)
    record = _on_record(directory)
    if record is not None:
        mine = set(record.namespaces.values())
        for process in record.processes.values():
            report(f"process {process.name}")
        processes.end(list(record.processes.values()))
    else:
        # Without a record, what bears the name is ours unless another lab has it on record.
        mine = set(namespace.names(f"{PREFIX}{name}-"))
        for other in lab_names(run):
            if other != name and (known := _on_record(Directory(other, run, state))) is not None:
                mine -= set(known.namespaces.values())
    for made in sorted(mine):
        if namespace.exists(made):
            report(f"namespace {made}")
            pins.remove(made)
            namespace.remove(made)
    directory.remove()


def _on_record(directory: Directory) -> LabRecord | None:
    """Return a lab's record; None where there is none that can be read."""
    try:
        return directory.load()
    except LabError:
        return None
