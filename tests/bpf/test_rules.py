"""Flow rules: which of them decides on a packet, and what becomes of it then."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Network

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from srv6dmm.dataplane import namespace
from tests.bpf import scene
from tests.bpf.checked import Router, dropped, label_of, to_kernel
from tests.bpf.running import OK, SHOT
from tests.bpf.scene import AWAY, CORRESPONDENT, NODE, at_access, at_outside, datagram
from tests.bpf.tables import DROP, ENCAP, KERNEL, Exact, Flow, Hop, Path, Rule, Ruleset

pytestmark = pytest.mark.root
BY_RULE, BY_PREFIX = scene.SEGMENTS[5], scene.SEGMENTS[0]
BY_OTHER = scene.SEGMENTS[3]
PREFIX = str(IPv6Network(f"{AWAY}/64", strict=False))
HOME = str(IPv6Network(f"{NODE}/64", strict=False))


def rule(order: int = 5, path: int = 4, **fields: object) -> Rule:
    """A rule that leads along one path, with counter 40."""
    made = Rule(order, ENCAP, ((path, 1),), 40)
    return replace(made, **fields)  # type: ignore[arg-type]


def downlink(router: Router, *rules: Rule, **fields: object) -> None:
    """Give the prefix of AWAY these rules."""
    router.tables.ruled[AWAY, False] = Ruleset(rules, **fields)  # type: ignore[arg-type]
    router.fill()


def way(router: Router, packet: Packet, device: str = "access0") -> str:
    """The first segment that a packet is sent to."""
    frame = at_access(packet) if device == "access0" else at_outside(packet)
    outcome = router.steer(frame, device)
    assert outcome.reasons == ("STEERED",)
    return str(Ether(outcome.frame)[IPv6].dst)


@pytest.fixture
def ruled(router: Router) -> Router:
    """The router with a path for rules that begins at BY_OTHER."""
    core0 = router.devices["core0"]
    router.tables.paths[5] = Path(core0, scene.template(scene.SEGMENTS[3:5], False), counter=14)
    router.fill()
    return router


def udp(sport: int = 4001, dport: int = 5002, **fields: object) -> Packet:
    return IPv6(src=NODE, dst=AWAY, **fields) / UDP(sport=sport, dport=dport) / Raw(bytes(20))


class TestMatch:
    """What a rule asks of a packet."""

    def test_a_rule_goes_before_the_prefix_and_counts(self, ruled: Router) -> None:
        downlink(ruled, rule())
        outcome = ruled.steer(at_access(datagram(NODE, AWAY)))
        assert Ether(outcome.frame)[IPv6].dst == BY_RULE
        assert outcome.counted == {40: (1, 148), 13: (1, 148)}

    @pytest.mark.parametrize(
        ("fields", "matching", "other"),
        [
            ({"protocol": 17}, udp(), IPv6(src=NODE, dst=AWAY) / TCP()),
            ({"protocol": 58}, IPv6(src=NODE, dst=AWAY) / ICMPv6EchoRequest(), udp()),
            ({"protocol": 17, "source_ports": (0, 0)}, udp(sport=0), udp(sport=1)),
            ({"source_ports": (65535, 65535)}, udp(sport=65535), udp(sport=65534)),
            ({"destination_ports": (5000, 5010)}, udp(dport=5010), udp(dport=5011)),
            ({"destination_ports": (5000, 5010)}, udp(dport=5000), udp(dport=4999)),
            ({"destination_ports": (0, 65535)}, udp(dport=0), IPv6(src=NODE, dst=AWAY, nh=58)),
            ({"source_ports": (4001, 4001), "destination_ports": (1, 9)}, udp(dport=9), udp()),
            ({"dscp": 46}, udp(tc=46 << 2 | 3), udp(tc=45 << 2)),
            ({"dscp": 0}, udp(tc=3), udp(tc=4)),
            ({"source": f"{NODE}/128"}, udp(), IPv6(src=f"{NODE[:-1]}6", dst=AWAY) / UDP()),
            ({"source": HOME}, udp(), None),
            ({"destination": f"{AWAY}/127"}, udp(), IPv6(src=NODE, dst=f"{AWAY[:-1]}a") / UDP()),
            ({"destination": PREFIX}, udp(), None),
            ({"source": "2000::/3", "destination": "2000::/3"}, udp(), None),
        ],
        ids=str,
    )
    def test_a_field(
        self, ruled: Router, fields: dict[str, object], matching: Packet, other: Packet | None
    ) -> None:
        downlink(ruled, rule(**fields))
        assert way(ruled, matching) == BY_RULE
        if other is not None:
            assert way(ruled, other) == BY_PREFIX

    def test_what_has_no_ports_matches_no_rule_that_names_some(self, ruled: Router) -> None:
        """And a fragment other than the first has none, but it has a protocol."""
        every = {"destination_ports": (0, 65535), "source_ports": (0, 65535)}
        cases: list[tuple[Packet, bool]] = [
            (IPv6ExtHdrFragment(offset=0, m=1, nh=17) / UDP(sport=1, dport=2), True),
            (IPv6ExtHdrFragment(offset=9, m=1, nh=17) / UDP(sport=1, dport=2), False),
            (IPv6ExtHdrDestOpt() / UDP(sport=1, dport=2), True),
            (ICMPv6EchoRequest(), False),
        ]
        downlink(ruled, rule(**every))
        for upper, has in cases:
            packet = IPv6(src=NODE, dst=AWAY) / upper / Raw(bytes(24))
            assert way(ruled, packet) == (BY_RULE if has else BY_PREFIX)
        downlink(ruled, rule(protocol=17))
        for upper, _ in cases[:3]:
            assert way(ruled, IPv6(src=NODE, dst=AWAY) / upper / Raw(bytes(24))) == BY_RULE

    def test_a_tagged_packet(self, ruled: Router) -> None:
        downlink(ruled, rule(protocol=17))
        outcome = ruled.steer(at_access(udp(), vlan=9))
        assert Ether(outcome.frame)[IPv6].dst == BY_RULE


class TestOrder:
    """Of the rules that match the one of the smallest order decides."""

    def test_within_a_set(self, ruled: Router) -> None:
        downlink(ruled, rule(3, 4, protocol=6), rule(4, 5, protocol=17), rule(9, 4))
        assert way(ruled, udp()) == BY_OTHER
        assert way(ruled, IPv6(src=NODE, dst=AWAY) / TCP()) == BY_RULE

    def test_the_last_of_sixteen(self, ruled: Router) -> None:
        many = [rule(n, 4, destination_ports=(n, n)) for n in range(15)]
        downlink(ruled, *many, rule(15, 5, destination_ports=(77, 77)))
        for port in range(15):
            assert way(ruled, udp(dport=port)) == BY_RULE
        assert way(ruled, udp(dport=77)) == BY_OTHER
        assert way(ruled, udp(dport=78)) == BY_PREFIX

    @pytest.mark.parametrize(("exact", "first"), [(4, BY_RULE), (6, BY_OTHER)])
    def test_of_a_5_tuple_and_a_range(self, ruled: Router, exact: int, first: str) -> None:
        ruled.tables.flows = {Flow(NODE, AWAY, 17, 4001, 5002): Exact(ENCAP, 4, 41, exact)}
        downlink(ruled, rule(2, 5, protocol=6), rule(5, 5, protocol=17), rule(8, 5, dscp=1))
        assert way(ruled, udp()) == first
        assert way(ruled, udp(dport=5003)) == BY_OTHER

    @pytest.mark.parametrize(("down", "up"), [(4, 5), (5, 4)])
    def test_of_both_directions(self, ruled: Router, down: int, up: int) -> None:
        """Whichever prefix's rule it is: between two nodes both have a say."""
        ruled.tables.ruled[NODE, True] = Ruleset((rule(up, 5, counter=41),))
        downlink(ruled, rule(down, 4))
        assert way(ruled, udp()) == (BY_RULE if down < up else BY_OTHER)
        ruled.tables.flows = {
            Flow(NODE, AWAY, 17, 4001, 5002): Exact(ENCAP, 4, 40, down),
            Flow(NODE, AWAY, 17, 4001, 5002, uplink=True): Exact(ENCAP, 5, 41, up),
        }
        ruled.tables.ruled = {}
        ruled.fill()
        assert way(ruled, udp()) == (BY_RULE if down < up else BY_OTHER)

    def test_a_5_tuple_of_the_other_direction_is_not_asked_for(self, ruled: Router) -> None:
        ruled.tables.flows = {Flow(NODE, AWAY, 17, 4001, 5002, uplink=True): Exact(ENCAP, 4)}
        ruled.tables.bindings.clear()
        ruled.fill()
        assert way(ruled, udp(), "outside0") == BY_PREFIX


class TestSource:
    """Rules of what comes from a node."""

    def test_they_hold_at_its_port(self, ruled: Router) -> None:
        ruled.tables.ruled = {(NODE, True): Ruleset((rule(),))}
        ruled.fill()
        assert way(ruled, datagram(NODE, AWAY)) == BY_RULE
        assert way(ruled, datagram(NODE, CORRESPONDENT)) == BY_RULE

    def test_they_mean_nothing_to_packets_from_outside(self, ruled: Router) -> None:
        ruled.tables.ruled = {(CORRESPONDENT, True): Ruleset((rule(),))}
        ruled.fill()
        assert way(ruled, datagram(CORRESPONDENT, AWAY), "outside0") == BY_PREFIX

    def test_a_source_that_is_not_bound_is_dropped_before_any_rule(self, ruled: Router) -> None:
        ruled.tables.ruled = {(NODE, True): Ruleset((rule(),))}
        ruled.tables.bindings = []
        ruled.fill()
        frame = at_access(datagram(NODE, AWAY))
        dropped(ruled.steer(frame), "SOURCE_UNBOUND", frame)

    @pytest.mark.parametrize(("prefix", "uplink"), [(NODE, False), (AWAY, True)])
    def test_those_of_the_other_direction_are_not_asked(
        self, ruled: Router, prefix: str, uplink: bool
    ) -> None:
        ruled.tables.ruled = {(prefix, uplink): Ruleset((rule(),))}
        ruled.fill()
        assert way(ruled, datagram(NODE, AWAY)) == BY_PREFIX


class TestWithoutPath:
    """Rules that lead nowhere, and those only the kernel can follow."""

    def test_a_rule_without_a_list_drops_and_counts(self, ruled: Router) -> None:
        downlink(ruled, Rule(5, DROP, (), 40, protocol=17))
        frame = at_access(datagram(NODE, AWAY))
        outcome = ruled.steer(frame)
        assert (outcome.verdict, outcome.reasons) == (SHOT, ("FLOW_DROP",))
        assert outcome.counted == {40: (1, 148)}
        ruled.tables.flows = {Flow(NODE, AWAY, 6, 20, 80): Exact(DROP, 0, 41)}
        ruled.fill()
        frame = at_access(IPv6(src=NODE, dst=AWAY) / TCP(sport=20, dport=80))
        assert ruled.steer(frame).reasons == ("FLOW_DROP",)

    def test_a_rule_for_the_kernel_counts(self, ruled: Router) -> None:
        downlink(ruled, Rule(5, KERNEL, (), 40, protocol=17), rule(6))
        frame = at_access(datagram(NODE, AWAY))
        outcome = ruled.steer(frame)
        assert (outcome.verdict, outcome.reasons) == (OK, ("FLOW_RULES",))
        assert (outcome.frame, outcome.counted) == (frame, {40: (1, 148)})
        assert way(ruled, IPv6(src=NODE, dst=AWAY) / TCP()) == BY_RULE

    def test_what_may_match_a_rule_that_is_not_here_is_the_kernels(self, ruled: Router) -> None:
        downlink(ruled, rule(5, protocol=6), rule(7, protocol=58), known=7)
        assert way(ruled, IPv6(src=NODE, dst=AWAY) / TCP()) == BY_RULE
        for packet in (udp(), IPv6(src=NODE, dst=AWAY) / ICMPv6EchoRequest()):
            frame = at_access(packet)
            to_kernel(ruled.steer(frame), "FLOW_RULES", frame)

    def test_a_set_of_the_other_direction_that_is_not_whole(self, ruled: Router) -> None:
        ruled.tables.ruled[NODE, True] = Ruleset((), known=5)
        downlink(ruled, rule(4, protocol=17), rule(6, protocol=6))
        assert way(ruled, udp()) == BY_RULE
        frame = at_access(IPv6(src=NODE, dst=AWAY) / TCP())
        to_kernel(ruled.steer(frame), "FLOW_RULES", frame)

    def test_a_path_that_is_not_there_yet(self, ruled: Router) -> None:
        downlink(ruled, rule(path=55))
        frame = at_access(udp())
        to_kernel(ruled.steer(frame), "NO_PATH", frame)

    def test_a_frame_to_somebody_else_is_not_dropped(self, ruled: Router) -> None:
        downlink(ruled, Rule(5, DROP, (), 40))
        frame = bytes(Ether(dst="02:00:00:00:77:77", src=scene.NODE_MAC) / udp())
        to_kernel(ruled.steer(frame), "OTHER_HOST", frame)

    def test_hop_limit_and_size_are_the_kernels(self, ruled: Router) -> None:
        downlink(ruled, rule())
        for packet, reason in ((udp(hlim=1), "HOP_LIMIT"), (udp() / Raw(bytes(1500)), "OVERSIZE")):
            frame = at_access(packet)
            to_kernel(ruled.steer(frame), reason, frame)


class TestWeights:
    """Several lists: each flow keeps to one, and they share the flows by weight."""

    @pytest.mark.parametrize("weights", [(1, 1), (3, 1), (1, 2, 3, 4), (1, 1_000_000)])
    def test_shares(self, ruled: Router, weights: tuple[int, ...]) -> None:
        """2000 flows; five standard deviations of a fair draw are allowed."""
        core0 = ruled.devices["core0"]
        ruled.tables.paths |= {
            6 + n: Path(core0, scene.template((scene.SEGMENTS[n], scene.LAST), False))
            for n in range(len(weights))
        }
        paths = tuple((6 + n, weight) for n, weight in enumerate(weights))
        downlink(ruled, rule(paths=paths))
        flows = 2000
        taken = dict.fromkeys(scene.SEGMENTS[: len(weights)], 0)
        run = ruled.fastpath.programs["steer"].runner(ruled.devices["access0"])
        for number in range(flows):
            frame = at_access(udp(sport=1024 + number // 40, dport=9000 + number % 40))
            firsts = set()
            for _ in range(2):
                with namespace.inside(ruled.fastpath.space):
                    verdict, left = run(frame)
                assert verdict == 7
                firsts.add(str(Ether(bytes(left))[IPv6].dst))
            (first,) = firsts
            taken[first] += 1
        for segment, weight in zip(scene.SEGMENTS, weights, strict=False):
            share = weight / sum(weights)
            deviation = (flows * share * (1 - share)) ** 0.5
            assert abs(taken[segment] - flows * share) <= 5 * deviation + 1, taken

    def test_the_sender_s_label_stands_for_the_ports(self, ruled: Router) -> None:
        """Fragments and packets of other ports, too: RFC 6438 section 3."""
        downlink(ruled, rule(paths=((4, 1), (5, 1))))
        for label in (1, 0x12345, 0xFFFFF):
            packets = [udp(fl=label), udp(9, 9, fl=label)]
            firsts = {way(ruled, packet) for packet in packets}
            assert len(firsts) == 1

    def test_the_label_of_a_path_does_not_tell_paths_apart(self, ruled: Router) -> None:
        """A flow has the label it would have on the only path."""
        frame = at_access(udp())
        downlink(ruled, rule())
        alone = label_of(ruled.steer(frame).frame)
        downlink(ruled, rule(paths=((4, 1), (5, 1))))
        assert label_of(ruled.steer(frame).frame) == alone

    def test_a_next_hop_without_carrier_leaves_its_flows_to_the_kernel(self, ruled: Router) -> None:
        devices = ruled.devices
        ruled.tables.paths[5] = replace(ruled.tables.paths[5], hop=3)
        down = Hop(devices["core0"], "02:00:00:00:00:07", scene.DEVICES["core0"], down=True)
        ruled.tables.hops = {3: down}
        downlink(ruled, rule(paths=((4, 1), (5, 1))))
        seen = set()
        for port in range(40):
            outcome = ruled.fastpath.send("steer", "access0", at_access(udp(sport=port)))
            seen.add((outcome.verdict, outcome.reasons))
        assert seen == {(7, ("STEERED",)), (OK, ("HOP_DOWN",))}
