"""The book of leases: what must always hold, whatever holders and clocks do."""

from collections import Counter
from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from rayserve_par.serving.admission.lease_book import LeaseBook, PoolSpec

HOLDERS = st.sampled_from(["a", "b", "c"])
SLOTS = PoolSpec("k/concurrency", 10)
BUCKET = PoolSpec("k/requests", 60, 1.0)

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "return", "spend", "crash", "tick"]),
        HOLDERS,
        st.integers(1, 20),
        st.floats(0, 30),
    ),
    max_size=60,
)


class Holder:
    """An honest holder: what it was granted and has not given back or spent."""

    def __init__(self) -> None:
        self.has = 0
        self.spent = 0


@given(STEPS, st.sampled_from([SLOTS, BUCKET]))
def test_leases_never_exceed_the_limit_and_room_is_never_refused(
    steps: list[tuple[str, str, int, float]], spec: PoolSpec
) -> None:
    book, now = LeaseBook(patience_seconds=0), 0.0
    holders = {name: Holder() for name in "abc"}
    for action, name, amount, seconds in steps:
        holder = holders[name]
        now += seconds / 10
        book.tick(now)
        if action == "ask":
            free_before = 0 if spec.name not in book._pools else book.free(spec.name)
            waiting = len([each for each in book.waiting(spec.name) if each != name])
            grant = book.ask(now, name, spec, amount)
            holder.has = int(book.leases(spec.name).get(name, 0))
            if grant.amount < amount:
                assert free_before - waiting < amount
                assert grant.retry_after_seconds > 0
        elif action == "return":
            back = min(amount, holder.has)
            holder.has -= back
            book.report(now, name, spec, holder.has, 0 if spec.is_slots else back)
        elif action == "spend" and not spec.is_slots:
            used = min(amount, holder.has)
            holder.has -= used
            holder.spent += used
            book.report(now, name, spec, holder.has)
        elif action == "crash":
            holder.has = 0
            book._drop(name)
        held = sum(book.leases(spec.name).values())
        assert held <= spec.capacity
        if spec.name in book._pools:
            assert book.free(spec.name) + held <= spec.capacity
        spent = sum(each.spent for each in holders.values())
        assert spent <= spec.capacity + spec.refill_per_second * now


@given(
    st.lists(st.tuples(HOLDERS, st.integers(1, 20), st.booleans(), st.floats(0, 3)), max_size=60),
    st.sampled_from([SLOTS, BUCKET]),
)
def test_who_knows_another_limit_of_the_same_key_is_granted_by_its_own(
    steps: list[tuple[str, int, bool, float]], spec: PoolSpec
) -> None:
    """As where two applications of a pool give a key different limits."""
    book, now, spent = LeaseBook(patience_seconds=0), 0.0, 0
    known = {
        name: replace(spec, capacity=round(share * spec.capacity))
        for name, share in (("a", 1), ("b", 0.5), ("c", 1.5))
    }
    for name, amount, gives_back, seconds in steps:
        now += seconds
        own = known[name]
        grant = book.ask(now, name, own, amount)
        held = sum(book.leases(spec.name).values())
        assert not grant.amount or held <= own.capacity
        if gives_back and not spec.is_slots:
            spent += int(book.leases(spec.name)[name]) if name in book.leases(spec.name) else 0
        if gives_back:
            book.report(now, name, own, 0)
        most = max(one.capacity for one in known.values())
        assert spent <= most + spec.refill_per_second * now


@given(st.lists(st.floats(-1e6, 1e9), max_size=30))
def test_no_jump_of_the_clock_frees_a_lease_or_fills_a_bucket_beyond_its_pace(
    jumps: list[float],
) -> None:
    book = LeaseBook(ttl_seconds=6, longest_step_seconds=2)
    book.ask(0.0, "a", SLOTS, 10)
    book.ask(0.0, "a", BUCKET, 60)
    book.report(0.0, "a", BUCKET, 0)
    clock, highest = 0.0, 0.0
    for jump in jumps:
        clock = jump
        book.renew(clock, "a")
        highest += 2.0
        assert book.leases(SLOTS.name) == {"a": 10}
        assert book.free(BUCKET.name) <= min(60, highest * BUCKET.refill_per_second)
        assert book.ask(clock, "b", SLOTS, 1).amount == 0


def test_a_silent_holder_loses_its_slots_and_what_it_had_of_a_bucket_counts_as_spent() -> None:
    book = LeaseBook(ttl_seconds=6)
    book.ask(0.0, "a", SLOTS, 10)
    book.ask(0.0, "a", BUCKET, 60)
    for second in range(1, 8):
        book.renew(float(second), "b")
    assert book.ask(7.0, "b", SLOTS, 10).amount == 10
    assert book.free(BUCKET.name) < 1


def test_debt_is_paid_off_before_anybody_gets_more() -> None:
    book = LeaseBook()
    granted = book.ask(0.0, "a", BUCKET, 1).amount
    book.report(0.0, "a", BUCKET, 0, returned=-40.0)  # took 40 more than it had
    rest = 60 - granted - 40
    assert book.free(BUCKET.name) == rest
    book.report(0.0, "a", BUCKET, 0, returned=-30.0 - rest)
    grant = book.ask(0.0, "b", BUCKET, 1)
    assert grant.amount == 0
    assert grant.retry_after_seconds == 31
    for second in range(1, 32):
        book.renew(float(second), "b")
    assert book.ask(31.0, "b", BUCKET, 1).amount == 1


def test_a_limit_that_changes_moves_the_room() -> None:
    book = LeaseBook()
    assert book.ask(0.0, "a", SLOTS, 10).amount == 10
    assert book.ask(0.0, "b", PoolSpec(SLOTS.name, 12), 5).amount == 2
    assert book.ask(0.0, "b", PoolSpec(SLOTS.name, 4), 1).amount == 0


@settings(max_examples=40)
@given(st.integers(1, 6), st.integers(2, 5), st.randoms(use_true_random=False))
def test_no_holder_starves_while_others_are_greedy(
    capacity: int, count: int, random: Random
) -> None:
    """All ask all the time; a slot's use ends now and then; what is owed goes back."""
    spec, book, now = PoolSpec("k/concurrency", capacity), LeaseBook(), 0.0
    held: Counter[str] = Counter()
    served: Counter[str] = Counter()
    names = [f"h{index}" for index in range(count)]
    for _ in range(60 * count):
        now += 0.05
        for name in names:
            if held[name] and random.random() < 0.5:
                if book.owed(spec.name, name):
                    held[name] -= 1
                    book.report(now, name, spec, held[name])
                else:
                    served[name] += 1  # its next request takes the slot over
            grant = book.ask(now, name, spec, 1)
            held[name] += grant.amount
            served[name] += grant.amount
    assert min(served[name] for name in names) >= 3


def test_a_ledger_that_follows_a_lost_one_starts_with_empty_buckets() -> None:
    book = LeaseBook(starts_empty=True)
    assert book.ask(0.0, "a", BUCKET, 1).amount == 0
    assert book.ask(0.0, "a", SLOTS, 10).amount == 10
