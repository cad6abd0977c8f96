"""Two histories for two audiences: no pair of them is ever signed by a quorum of witnesses.

The log itself is the enemy here: it has its key, knows every proof and asks as often as it likes,
in any order, from any size, one witness after the other or both at once.
"""

import random
import threading

import pytest

from audit.merkle import consistency_proof
from audit.note import Cosigner, Signer, open_note
from audit.tiles import TileNodes
from audit.witness import Witness, write_submission
from kernel import SystemClock

WITNESSES = [Cosigner.from_seed(f"witness.example/w{at}", bytes([at]) * 32) for at in (1, 2)]
QUORUM = 2
FORKS, RACES = 100, 20


@pytest.fixture
def witnesses(tmp_path, make_log):
    """Two witnesses that have nothing in common; a new pair at each call."""
    made = 0

    def make():
        nonlocal made
        made += 1
        log = make_log(0).signer.verifier
        return [
            Witness(one, [log], tmp_path / f"{made}-{at}.db", SystemClock())
            for at, one in enumerate(WITNESSES)
        ]

    return make


def entries(rng, count, mark):
    return [b'{"id":"%s_%d_%d"}' % (mark, at, rng.getrandbits(32)) for at in range(count)]


def two_histories(rng, make_log):
    """A log of random size, and two that share only a random beginning of it."""
    base = make_log(rng.randrange(1, 600))
    shared = rng.randrange(base.size + 1)
    forks = []
    for mark in (b"left", b"right"):
        fork = make_log(0)
        fork.append(base.stored[:shared] + entries(rng, rng.randrange(1, 300), mark))
        forks.append(fork)
    return base, forks


def proof_to(log, old):
    if not 0 < old < log.size:
        return []
    return consistency_proof(old, log.size, TileNodes(log.read_tile))


def push(witness, log, rng, tries=6):
    """Have a witness sign a history by every means; gives whether it did.

    Its own old size and others, right proofs and wrong ones, a history grown until it is longer
    than what was signed.
    """
    heads = witness.heads().values()
    signed = max((size for size, _ in heads), default=0)
    if log.size <= signed:
        log.append(entries(rng, signed - log.size + rng.randrange(1, 40), b"later"))
    olds = [signed, 0, log.size, rng.randrange(log.size + 1)]
    for _ in range(tries):
        old = rng.choice(olds)
        proof = proof_to(log, rng.choice([old, signed, rng.randrange(log.size + 1)]))
        reply = witness.add_checkpoint(write_submission(old, proof, log.checkpoint_note()))
        if reply.status == 200:
            return True
    body = write_submission(signed, proof_to(log, signed), log.checkpoint_note())
    return witness.add_checkpoint(body).status == 200


def contradict(one, other):
    """Whether neither history is the beginning of the other."""
    shared = min(one.size, other.size)
    return one.stored[:shared] != other.stored[:shared]


def signed_by(witnesses):
    """The notes that each witness stands by now."""
    return [note for witness in witnesses for _, note in witness.heads().values()]


@pytest.mark.parametrize("seed", range(4))
def test_of_a_hundred_forks_none_reaches_a_quorum(witnesses, make_log, seed):
    rng = random.Random(seed)
    for _ in range(FORKS // 4):
        pair = witnesses()
        base, forks = two_histories(rng, make_log)
        for witness in pair:
            head = write_submission(0, [], base.checkpoint_note())
            assert witness.add_checkpoint(head).status == 200
        reached = []
        for fork in forks:
            votes = sum(push(witness, fork, rng) for witness in rng.sample(pair, 2))
            if votes >= QUORUM:
                reached.append(fork)
        assert not any(contradict(base, fork) for fork in reached), "it left what was witnessed"
        assert len(reached) <= 1


def test_another_history_of_the_very_size_that_was_signed_is_refused(witnesses, make_log):
    """It needs no proof to lead from one to the other: only the roots tell them apart."""
    rng = random.Random(3)
    (witness, _) = witnesses()
    base, fork = make_log(40), make_log(0)
    fork.append(base.stored[:39] + entries(rng, 1, b"other"))
    for log, status in ((base, 200), (fork, 409), (base, 200)):
        old = witness.heads()[log.signer.name][0] if witness.heads() else 0
        body = write_submission(old, [], log.checkpoint_note())
        assert witness.add_checkpoint(body).status == status
    assert witness.heads()[base.signer.name] == (40, base.checkpoint_note())


def test_each_audience_its_own_history_reaches_no_quorum(witnesses, make_log):
    """One fork goes to one witness first, the other to the other: then neither has both."""
    rng = random.Random(5)
    for _ in range(25):
        pair = witnesses()
        _, (left, right) = two_histories(rng, make_log)
        assert push(pair[0], left, rng)
        assert push(pair[1], right, rng)
        assert not push(pair[1], left, rng)
        assert not push(pair[0], right, rng)


@pytest.mark.parametrize("turn", range(RACES))
def test_two_forks_that_race_for_both_witnesses_do_not_both_win(witnesses, make_log, turn):
    rng = random.Random(100 + turn)
    pair = witnesses()
    base = make_log(rng.randrange(1, 300))
    for witness in pair:
        assert witness.add_checkpoint(write_submission(0, [], base.checkpoint_note())).status == 200
    forks = []
    for mark in (b"left", b"right"):
        fork = make_log(0)
        fork.append(base.stored + entries(rng, rng.randrange(1, 60), mark))
        forks.append(fork)
    bodies = [
        write_submission(base.size, proof_to(fork, base.size), fork.checkpoint_note())
        for fork in forks
    ]
    answers = {}
    line = threading.Barrier(4)

    def run(fork, at):
        line.wait()
        answers[fork, at] = pair[at].add_checkpoint(bodies[fork])

    threads = [threading.Thread(target=run, args=(f, w)) for f in (0, 1) for w in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for at in (0, 1):
        statuses = sorted(answers[fork, at].status for fork in (0, 1))
        assert statuses in ([200, 409], [200, 422]), statuses
    won = [f for f in (0, 1) if all(answers[f, at].status == 200 for at in (0, 1))]
    assert len(won) <= 1
    for fork in won:
        note = forks[fork].checkpoint_note() + "".join(answers[fork, at].text for at in (0, 1))
        keys = [base.signer.verifier, *(one.verifier for one in WITNESSES)]
        assert len(open_note(note, keys).signed_by) == 3


def test_a_quorum_of_one_of_two_is_no_protection_from_a_split_view(witnesses, make_log):
    """Why docs/formats/audit-log.md asks for more than half: each witness speaks for itself."""
    rng = random.Random(7)
    pair = witnesses()
    _, forks = two_histories(rng, make_log)
    assert [push(pair[at], forks[at], rng) for at in (0, 1)] == [True, True]
    assert len(set(signed_by(pair))) == 2


def test_a_log_that_changes_its_key_is_no_other_log(witnesses, make_log):
    """A second key under the log's name, unknown to the witnesses, brings nothing."""
    rng = random.Random(8)
    (witness, _) = witnesses()
    _, forks = two_histories(rng, make_log)
    forks[0].signer = Signer.from_seed(forks[0].signer.name, bytes(32))
    assert not push(witness, forks[0], rng)
    assert witness.heads() == {}
