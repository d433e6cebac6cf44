"""Messages between the controller and an agent, one WebSocket text frame each (JSON).

Agent -> controller: Hello first, then Ack / Failed / Heartbeat / Report / Telemetry /
Detected / ModeReport / LinkReport / DelayReport / ListReport / Inspection / Watching / Probed /
Sighting. Controller -> agent: Welcome first, then FullPlan, DeltaPlan, Resync, SetMode, Inspect,
Watch, Unwatch, Probe.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from typing import Literal

from srv6dmm.model.plan import PlanEntry
from srv6dmm.model.sid import Behavior, SegmentList

PROTOCOL = 4

ForwardingMode = Literal["ebpf", "netlink"]
"""How a router forwards: by the kernel's routes alone, or by the fast path in front of them."""
FAST_PATH = "fast_path"
"""The capability that says, in a Hello, that the mode in effect is `ebpf`."""
NEXT_CSID = "next_csid"
"""The capability that says that the kernel keeps End with NEXT-C-SID as it was put (Linux 6.1)."""


@dataclass(frozen=True, slots=True)
class Hello:
    """First word of an agent. `applied` is None when it does not know what it applied."""

    router: str
    boot_id: str
    version: str
    protocol: int
    applied: int | None
    capabilities: dict[str, bool]


@dataclass(frozen=True, slots=True)
class Welcome:
    """First word of the controller. A FullPlan follows at once."""

    heartbeat_s: float
    controller_boot_id: str


@dataclass(frozen=True, slots=True)
class FullPlan:
    """The whole plan; what is ours in the kernel and not in it is deleted."""

    revision: int
    entries: tuple[PlanEntry, ...]


@dataclass(frozen=True, slots=True)
class DeltaPlan:
    """Changes on top of revision `base`. An agent not at `base` answers Hello anew."""

    base: int
    revision: int
    put: tuple[PlanEntry, ...]
    gone: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Resync:
    """Read the kernel back now, repair, and answer with a Report."""


@dataclass(frozen=True, slots=True)
class SetMode:
    """Forward in this mode from now on; the answer is a ModeReport. Nothing is lost meanwhile.

    The choice is the running agent's: its successor begins in the mode it is started in.
    """

    mode: ForwardingMode


@dataclass(frozen=True, slots=True)
class ModeReport:
    """What came of a SetMode: the mode asked for, the one in effect, and why they differ."""

    asked: ForwardingMode
    mode: ForwardingMode
    reason: str | None
    """None when the mode in effect is the one asked for."""


@dataclass(frozen=True, slots=True)
class Ack:
    """Everything up to `revision` is in the kernel and was read back."""

    revision: int
    applied_at_ms: float
    """Agent's CLOCK_REALTIME in milliseconds when the read-back was done."""
    took_ms: float


@dataclass(frozen=True, slots=True)
class EntryFailure:
    """Why one entry could not be applied: the key, errno (0: none) and a sentence."""

    key: str
    errno: int
    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Revision `revision` was not applied whole; `failures` names what the kernel refused.

    What could be applied is applied; the agent stays at this revision as "with failures"
    and retries with back-off until a newer plan replaces the entries.
    """

    revision: int
    failures: tuple[EntryFailure, ...]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Alive, and what is applied."""

    applied: int | None


@dataclass(frozen=True, slots=True)
class Report:
    """Outcome of a read-back: keys that were missing, different or superfluous and repaired."""

    revision: int
    missing: tuple[str, ...]
    different: tuple[str, ...]
    superfluous: tuple[str, ...]
    sid_packets: dict[str, tuple[int, int, int]]
    """SID -> (packets, bytes, errors) where the kernel counts."""


@dataclass(frozen=True, slots=True)
class PrefixTraffic:
    """What a router's fast path handled for one prefix since the entry was made."""

    prefix: IPv6Network
    packets: int
    octets: int
    idle_ms: int
    """Since the newest packet, as far as the agent has seen."""


@dataclass(frozen=True, slots=True)
class FlowTraffic:
    """What a router's fast path did with packets of one flow entry since it was made."""

    number: int
    """`FlowSteering.number`."""
    packets: int
    octets: int
    idle_ms: int
    """Since the newest packet, as far as the agent has seen."""


@dataclass(frozen=True, slots=True)
class SidTraffic:
    """What a router's fast path did at one of its SIDs, since the SID has an entry there."""

    sid: IPv6Address
    behavior: Behavior
    packets: int
    octets: int
    """With outer headers, as they came."""


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What the fast path counted; said when something changed, and every ten seconds.

    The first after a Hello says all, a bounded number of prefixes and flows in each message.
    """

    reasons: dict[str, int]
    """Packets under each reason that occurred, since the maps were made."""
    prefixes: tuple[PrefixTraffic, ...]
    """Prefixes whose counts changed."""
    gone: tuple[IPv6Network, ...]
    """Prefixes without an entry now; to be forgotten before `prefixes` is taken in."""
    flows: tuple[FlowTraffic, ...] = ()
    """Flow entries whose counts changed."""
    flows_gone: tuple[int, ...] = ()
    """Flow entries that are there no more, as `gone`."""
    sids: tuple[SidTraffic, ...] | None = None
    """Local SIDs that have counted, all of them; None: as was said before."""


@dataclass(frozen=True, slots=True)
class Detected:
    """A mobile node sent something at an access interface where it is not known to be.

    `kind`: solicitation (RS), duplicate-address-detection (NS from ::), or data.
    """

    kind: str
    link_layer_address: str
    address: IPv6Address
    """Its source; of duplicate address detection the address in question."""
    at_ms: int
    """Agent's CLOCK_REALTIME in milliseconds."""


@dataclass(frozen=True, slots=True)
class LinkReport:
    """Which links to other routers do not work, as this end sees it: all of them, every time.

    Said once the interfaces are known, and whenever it changes.
    """

    down: tuple[str, ...]
    """Core interfaces without carrier, in name order."""


@dataclass(frozen=True, slots=True)
class Inspect:
    """Read back what these plan entries are in the kernel, repair nothing; answer: Inspection."""

    number: int
    """Of the question; the answer has it too."""
    entries: tuple[PlanEntry, ...]


@dataclass(frozen=True, slots=True)
class EntryState:
    """What became of one plan entry at a router."""

    key: str
    planned: bool
    """Whether the plan the router has applied says the same of it."""
    state: Literal["present", "different", "missing", "unread"]
    """Of all that it is in kernel and fast path, the worst."""
    found: tuple[str, ...] = ()
    """What is not as it should be, a sentence each."""
    packets: int | None = None
    """Counted by what it is there; None: nothing of it counts."""
    octets: int | None = None
    errors: int | None = None


@dataclass(frozen=True, slots=True)
class Inspection:
    """The answer to an Inspect, entry by entry."""

    number: int
    revision: int | None
    """As applied when it was read."""
    entries: tuple[EntryState, ...]


@dataclass(frozen=True, slots=True)
class Watch:
    """Look out for packets that end in a token; answer Watching, then a Sighting for each.

    One watch at a time: a new one takes the place of the last.
    """

    token: str
    """Sixteen hexadecimal digits."""
    seconds: float
    """Then it ends by itself."""


@dataclass(frozen=True, slots=True)
class Unwatch:
    """Look no more for a token; answer Watching when all that was seen is told."""

    token: str


@dataclass(frozen=True, slots=True)
class Watching:
    """Whether there is a watch now; `reason`: why not."""

    token: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Probe:
    """Have an interface receive one packet that ends in a token; the answer is Probed."""

    token: str
    interface: str
    link_layer_address: str | None
    """Whom it is to come from; None: a neighbour that does not matter."""
    source: IPv6Address
    destination: IPv6Address
    protocol: int
    source_port: int | None
    destination_port: int | None
    dscp: int


@dataclass(frozen=True, slots=True)
class Probed:
    """What came of a Probe; `reason`: why the packet could not be sent."""

    token: str
    at_ns: int
    """Agent's CLOCK_REALTIME in nanoseconds when it was sent."""
    reason: str | None


@dataclass(frozen=True, slots=True)
class Sighting:
    """A packet that ends in a watched token crossed an interface."""

    token: str
    interface: str
    outgoing: bool
    at_ns: int
    """Agent's CLOCK_REALTIME in nanoseconds."""
    source: IPv6Address
    """Of the packet itself, whatever outer headers it has."""
    destination: IPv6Address
    protocol: int
    hop_limit: int
    """Of the outermost header."""
    headers: tuple[tuple[IPv6Address, ...], ...]
    """Segments left in each outer header, the active one first; the outermost header last."""


@dataclass(frozen=True, slots=True)
class DelayReport:
    """What links to other routers take, as this end measures it: all of them, every time.

    Said when one of them changed notably.
    """

    delays: dict[str, int]
    """Core interface -> microseconds, one way. Who does not answer is not in it."""


@dataclass(frozen=True, slots=True)
class ListReport:
    """Which segment lists of the plan answer probes: those whose state is news."""

    silent: tuple[SegmentList, ...]
    """They do not answer."""
    answering: tuple[SegmentList, ...]
    """They did not, and do again."""


FromAgent = (
    Hello
    | Ack
    | Failed
    | Heartbeat
    | Report
    | Telemetry
    | Detected
    | ModeReport
    | LinkReport
    | Inspection
    | Watching
    | Probed
    | Sighting
    | DelayReport
    | ListReport
)
FromController = (
    Welcome | FullPlan | DeltaPlan | Resync | SetMode | Inspect | Watch | Unwatch | Probe
)
