"""What recordings of probes and taps say, by hand-made recordings and by random ones."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srv6dmm.lab.analysis import Crossings, Flow, flows
from srv6dmm.lab.recordings import (
    ProbeRecording,
    Received,
    RecordingError,
    TapRecording,
    decode_probe,
    decode_tap,
    encode_probe,
    encode_tap,
)

MS = 1_000_000


def flow(sent: int, arrivals: list[tuple[int, int]], hop_limit: int = 60) -> Flow:
    """One packet sent every millisecond; arrivals are (sequence, time in ms)."""
    received = Received(
        array("I", [sequence for sequence, _ in arrivals]),
        array("q", [at * MS for _, at in arrivals]),
        array("B", [hop_limit] * len(arrivals)),
    )
    return Flow(1, [number * MS for number in range(sent)], received)


def test_a_flow_that_arrives_whole() -> None:
    report = flow(5, [(n, n + 1) for n in range(5)]).report()
    assert (report.sent, report.received, report.lost) == (5, 5, 0)
    assert (report.duplicated, report.reordered, report.longest_gap_ms) == (0, 0, 1.0)


def test_loss_is_counted_and_makes_a_gap() -> None:
    report = flow(10, [(n, n + 1) for n in (0, 1, 2, 7, 8, 9)]).report()
    assert (report.lost, report.reordered, report.longest_gap_ms) == (4, 0, 5.0)


def test_a_duplicate_is_neither_a_reception_nor_reordering() -> None:
    report = flow(3, [(0, 1), (1, 2), (2, 3), (1, 4)]).report()
    assert (report.received, report.duplicated, report.reordered) == (3, 1, 0)


def test_reordering_counts_the_late_packets() -> None:
    # 3 overtakes 1 and 2: two packets are late (RFC 4737 section 3.3).
    report = flow(5, [(0, 1), (3, 4), (1, 5), (2, 6), (4, 7)]).report()
    assert (report.lost, report.reordered) == (0, 2)


def test_a_packet_late_against_one_outside_the_window_is_reordered() -> None:
    subject = flow(10, [(0, 1), (8, 9), (3, 10)])
    assert subject.report((3 * MS, 5 * MS)).reordered == 1


def test_a_window_counts_what_was_sent_in_it() -> None:
    subject = flow(10, [(n, n + 20) for n in range(10) if n != 6])
    inside = subject.report((5 * MS, 8 * MS))
    assert (inside.sent, inside.received, inside.lost) == (3, 2, 1)
    outside = subject.report((0, 5 * MS))
    assert (outside.sent, outside.lost) == (5, 0)


def test_a_gap_that_only_touches_the_window_counts_whole() -> None:
    subject = flow(2, [(0, 0), (1, 100)])
    assert subject.report((40 * MS, 50 * MS)).longest_gap_ms == 100
    assert subject.report((100 * MS, 200 * MS)).longest_gap_ms == 0


def test_a_gap_is_not_counted_again_by_the_move_before() -> None:
    # Moves from 10 to 15 and from 50 to 52; the second one interrupts the flow from 49 to 90.
    subject = flow(99, [(n, n) for n in (*range(12), *range(18, 50), *range(90, 99))])
    assert subject.longest_gap_ms((10 * MS, 15 * MS), 50 * MS) == 7
    assert subject.longest_gap_ms((50 * MS, 52 * MS), 99 * MS) == 41
    # Nothing arrived any more after the first: the gap is that one's as well.
    subject = flow(99, [(n, n) for n in (*range(12), *range(90, 99))])
    assert subject.longest_gap_ms((10 * MS, 15 * MS), 50 * MS) == 79
    assert flow(9, []).longest_gap_ms((10 * MS, 15 * MS), 50 * MS) == 0


def test_a_pause_of_the_sender_is_told_from_a_gap_of_the_network() -> None:
    subject = flow(3, [(0, 1), (1, 2), (2, 90)])
    assert (subject.report().longest_gap_ms, subject.report().longest_pause_ms) == (88, 1)


def test_nothing_received() -> None:
    report = flow(4, []).report()
    assert (report.received, report.lost, report.longest_gap_ms) == (0, 4, 0)
    assert flow(4, []).first_received_after(0) is None


def test_first_received_after_is_strictly_after() -> None:
    subject = flow(3, [(0, 5), (1, 6), (2, 9)])
    assert subject.first_received_after(5 * MS) == 6 * MS
    assert subject.first_received_after(6 * MS) == 9 * MS
    assert subject.first_received_after(9 * MS) is None


def test_hop_limits_of_a_window() -> None:
    subject = flow(3, [(0, 1), (1, 2), (2, 3)], hop_limit=61)
    assert subject.hop_limits((2 * MS, 9 * MS)) == {61: 2}


def test_flows_join_sender_and_receiver() -> None:
    near = ProbeRecording(sent={1: array("q", [1, 2])}, received={2: Received()})
    far = ProbeRecording(
        sent={2: array("q", [3])},
        received={1: Received(array("I", [0]), array("q", [9]), array("B", [64]))},
    )
    joined = flows([near, far])
    assert joined[1].report().lost == 1
    assert joined[2].report().lost == 1
    with pytest.raises(ValueError, match="flow 1 has two senders"):
        flows([near, near])


sequences = st.lists(st.integers(0, 30), max_size=60)


@given(sequences)
def test_every_arrival_is_accounted_for_once(order: list[int]) -> None:
    report = flow(31, [(sequence, at) for at, sequence in enumerate(order)]).report()
    assert report.received == len(set(order))
    assert report.received + report.lost == report.sent
    assert report.received + report.duplicated == len(order)
    assert report.reordered < max(1, report.received)
    if order == sorted(order):
        assert report.reordered == 0


@given(sequences, st.integers(0, 31))
def test_windows_that_meet_add_up(order: list[int], cut: int) -> None:
    subject = flow(31, [(sequence, at) for at, sequence in enumerate(order)])
    whole = subject.report((0, 31 * MS))
    parts = [subject.report((0, cut * MS)), subject.report((cut * MS, 31 * MS))]
    for name in ("sent", "received", "lost", "duplicated", "reordered"):
        assert getattr(whole, name) == sum(getattr(part, name) for part in parts)


def tap(*entries: tuple[str, int, int, int, int, int], drops: int = 0) -> TapRecording:
    """Entries are (point, ms, flow, sequence, hop limit, overhead)."""
    recording = TapRecording(drops=drops)
    for point, at, number, sequence, limit, overhead in entries:
        if point not in recording.points:
            recording.points.append(point)
        recording.point.append(recording.points.index(point))
        recording.time_ns.append(at * MS)
        recording.flow.append(number)
        recording.sequence.append(sequence)
        recording.hop_limit.append(limit)
        recording.overhead.append(overhead)
    return recording


def test_crossings() -> None:
    seen = Crossings(
        tap(
            ("ar1:tr1", 1, 2, 0, 62, 40),
            ("ar1:tr3", 2, 2, 1, 61, 40),
            ("ar1:tr1", 2, 4, 0, 62, 40),
            # Read from another socket, so later in the file though earlier in time.
            ("ar2:tr1", 4, 2, 3, 61, 64),
            ("ar2:tr1", 3, 2, 2, 62, 40),
        )
    )
    assert seen.packets_through("ar1", 2) == 2
    assert seen.packets_through("ar1", 2, (2 * MS, 9 * MS)) == 1
    assert seen.packets_through("ar1", 2, interface="tr1") == 1
    assert seen.packets_through("ar9", 2) == 0
    assert seen.first_through("ar2", 2, 0) == (3 * MS, 2)
    assert seen.first_through("ar2", 2, 3 * MS) == (4 * MS, 3)
    assert seen.first_through("ar2", 2, 4 * MS) is None
    assert seen.last_through("ar1", 2) == (2 * MS, 1)
    assert seen.last_through("ar1", 2, 2 * MS) == (1 * MS, 0)
    assert seen.hops("ar1", 2) == {2: 1, 3: 1}
    assert seen.overheads("ar2", 2) == {40: 1, 64: 1}
    assert seen.sequences("ar2", 2) == [2, 3]


columns = st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(-(2**62), 2**62)), max_size=20)


@given(st.dictionaries(st.integers(0, 65535), columns, max_size=4), st.integers(0, 99))
def test_a_probe_file_gives_back_what_went_in(
    parts: dict[int, list[tuple[int, int]]], overruns: int
) -> None:
    recording = ProbeRecording(overruns=overruns, unsent=overruns + 1)
    for number, entries in parts.items():
        recording.sent[number] = array("q", [at for _, at in entries])
        recording.received[number] = Received(
            array("I", [sequence for sequence, _ in entries]),
            array("q", [at for _, at in entries]),
            array("B", [sequence & 0xFF for sequence, _ in entries]),
        )
    assert decode_probe(encode_probe(recording)) == recording


def test_a_tap_file_gives_back_what_went_in() -> None:
    recording = tap(("ar1:tr1", 1, 2, 0, 62, 40), ("air:cell-ar1", 2, 65535, 7, 61, 0), drops=3)
    assert decode_tap(encode_tap(recording)) == recording


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not json\n",
        b'{"kind": "probe"}\n',
        b'{"kind": "tap", "columns": []}\n',
        encode_probe(ProbeRecording(sent={1: array("q", [1, 2])}))[:-1],
        encode_probe(ProbeRecording(sent={1: array("q", [1, 2])})) + b"x",
    ],
)
def test_what_is_no_whole_probe_file_is_refused(data: bytes) -> None:
    with pytest.raises(RecordingError):
        decode_probe(data)
