"""A million frames, good ones and what malice makes of them: the programs do as the model says.

SRV6DMM_FUZZ_FRAMES (at least so many) and SRV6DMM_FUZZ_SEED ask for more and for others.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from multiprocessing.connection import Connection

import pytest

from srv6dmm.dataplane import namespace
from tests.bpf import scene
from tests.bpf.fuzzing import Comparison, Different, Tally
from tests.bpf.model import Model
from tests.bpf.mutation import Mutator, corpus
from tests.bpf.running import DEVICES, OK, REASONS, REDIRECT, SHOT, Fastpath
from tests.bpf.tables import mac

pytestmark = pytest.mark.root

FRAMES = int(os.environ.get("SRV6DMM_FUZZ_FRAMES", "1000000"))
SEED = os.environ.get("SRV6DMM_FUZZ_SEED", "1")
# These need a helper of the kernel to refuse: test_bad_input.py has the one that can be made to.
# The model knows nothing of neighbours: test_hops.py has those.
UNREACHED = {"ADJUST_FAILED", "REDIRECT_FAILED", "STORE_FAILED", "HOP_DOWN"}


def _work(fastpath: Fastpath, model: Model, processor: int, count: int, answer: Connection) -> None:
    namespace.enter(fastpath.space)
    try:
        answer.send(Comparison(fastpath, model, processor).run(f"{SEED} {processor}", count))
    except Different as difference:
        answer.send(str(difference))


@pytest.mark.timeout(max(120, FRAMES // 5000))
def test_every_frame_is_treated_as_the_model_says(fastpath: Fastpath) -> None:
    tables = scene.with_rules(scene.with_flows(scene.router(fastpath.devices)))
    fastpath.fill(tables)
    model = Model(tables, {fastpath.devices[name]: mac(at) for name, at in DEVICES.items()})
    processors = sorted(os.sched_getaffinity(0))[:8]
    each = -(-FRAMES // (len(processors) * len(corpus())))
    fork = multiprocessing.get_context("fork")
    workers = []
    for processor in processors:
        here, there = fork.Pipe(duplex=False)
        worker = fork.Process(target=_work, args=(fastpath, model, processor, each, there))
        worker.start()
        there.close()
        workers.append((worker, here))
    tallies = []
    for worker, here in workers:
        answer = here.recv()
        worker.join()
        assert isinstance(answer, Tally), answer
        tallies.append(answer)
    seen = sum((tally.reasons for tally in tallies), Counter())
    frames = sum(tally.frames for tally in tallies)
    assert frames >= FRAMES
    assert sum(fastpath.reasons().values()) == sum(seen.values()) == frames
    if frames >= 100_000:
        assert set(REASONS.values()) - seen.keys() == UNREACHED
        assert min(seen.values()) > 100, seen
    for tally in tallies:
        assert tally.met_again > tally.frames // 100
        assert len(set(tally.labels.values())) > 0.95 * len(tally.labels)


@pytest.mark.parametrize(("size", "segments"), [(1, 2), (50, 2), (536, 3), (1440, 5)])
def test_super_packets_are_handled_or_left_whole(
    fastpath: Fastpath, size: int, segments: int
) -> None:
    """BPF_PROG_TEST_RUN cannot say of which type: some helpers refuse, and nothing may be lost."""
    tables = scene.with_flows(scene.router(fastpath.devices))
    fastpath.fill(tables)
    for (program, device), frames in corpus().items():
        for frame in Mutator(f"{SEED} {size}", frames).frames(400):
            padded = frame + bytes(max(0, size - len(frame)))
            try:
                outcome = fastpath.send(program, device, padded, (size, segments))
            except OSError:
                continue  # the kernel takes no such packet
            assert len(outcome.reasons) == 1, outcome
            [reason] = outcome.reasons
            if outcome.verdict == OK and reason != "ENDPOINT":
                assert outcome.frame == padded, reason
                assert outcome.counted == {}
            elif outcome.verdict == REDIRECT:
                assert reason in {"STEERED", "DELIVERED", "ENDPOINT", "REDIRECTED"}
            else:
                assert outcome.verdict in (OK, SHOT)
