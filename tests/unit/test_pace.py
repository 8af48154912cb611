"""How many may clone at once: learnt from clones on a storage that has one lock, as Proxmox has."""

import random
from dataclasses import dataclass, field

import pytest
import simpy
from hypothesis import given
from hypothesis import strategies as st

from daas.nodes.pace import MAX, Pace

LOCK_S = 10.0  # what Proxmox gives


@dataclass
class Storage:
    """Each clone takes the lock twice, as long as measured on a real cluster; between, a client
    looks once a second. From `slow_at` on all of that is `slow` times as long."""

    clone_s: float = 0.9
    config_s: float = 0.4
    rest_s: float = 2.0  # what a create does that needs no lock
    slow_at: float = float("inf")
    slow: float = 1.0
    seed: int = 0
    env: simpy.Environment = field(default_factory=simpy.Environment)
    pace: Pace | None = field(default_factory=Pace)
    inside: int = 0
    errors: int = 0
    done: int = 0
    busy_s: float = 0.0
    longest_wait_s: float = 0.0
    over_at: float = 0.0
    waiting: list[simpy.Event] = field(default_factory=list)

    def burst(self, count):
        self.lock, self.random = simpy.Resource(self.env), random.Random(self.seed)
        for _ in range(count):
            self.env.process(self.session())
        self.env.run(3600)
        return self

    @property
    def rate(self):
        """Of what the lock allows."""
        return self.busy_s / self.over_at

    def session(self):
        while True:
            while self.pace and self.inside >= self.pace.open:
                self.waiting.append(self.env.event())
                yield self.waiting[-1]
            self.inside, since = self.inside + 1, self.env.now
            is_made = yield from self.create()
            if self.pace:
                took_s, loaded = self.env.now - since, bool(self.waiting)
                after = self.pace.after_clone(took_s, self.inside, loaded)
                self.pace = after if is_made else self.pace.after_congestion()
            self.inside -= 1
            for _ in range(
                min(self.pace.open - self.inside, len(self.waiting)) if self.pace else 0
            ):
                self.waiting.pop(0).succeed()
            if is_made:
                self.done += 1
                return

    def create(self):
        for seconds, looks in ((self.clone_s, True), (self.config_s, False)):
            asked = self.env.now
            with self.lock.request() as mine:
                yield mine | self.env.timeout(LOCK_S)
                if not mine.triggered:
                    self.errors += 1
                    return False
                self.longest_wait_s = max(self.longest_wait_s, self.env.now - asked)
                held_s = seconds * self.random.uniform(0.9, 1.1)
                held_s *= self.slow if self.env.now >= self.slow_at else 1
                yield self.env.timeout(held_s)
                self.busy_s, self.over_at = self.busy_s + held_s, self.env.now
            if looks:
                yield self.env.timeout(1.0 - (self.env.now - asked) % 1.0)
        yield self.env.timeout(self.rest_s)
        return True


@pytest.mark.parametrize("count", [1, 4, 10, 50, 200, 1000])
@pytest.mark.parametrize("rest_s", [0.5, 2.0, 4.0])
def test_a_burst_of_any_size_sees_no_lock_error(count, rest_s):
    burst = Storage(rest_s=rest_s).burst(count)
    assert (burst.errors, burst.done) == (0, count)
    assert burst.longest_wait_s < 0.7 * LOCK_S


@pytest.mark.parametrize("count", [4, 20, 50, 200])
@pytest.mark.parametrize("rest_s", [0.5, 1.0, 2.0])
def test_the_lock_is_kept_busy(count, rest_s):
    assert Storage(rest_s=rest_s).burst(count).rate >= 0.9


def test_a_storage_that_is_known_is_kept_busy_though_a_create_does_much_besides():
    first = Storage(rest_s=3.0).burst(100)
    assert Storage(rest_s=3.0, pace=first.pace).burst(100).rate >= 0.9


@pytest.mark.parametrize("count", [20, 50])
def test_with_all_at_once_most_wait_in_vain(count):
    """The control: without admission the same storage refuses."""
    assert Storage(pace=None).burst(count).errors > 0


@pytest.mark.parametrize("slow", [1.5, 2.0])
def test_when_the_storage_gets_slower_fewer_are_let_in_before_one_waits_in_vain(slow):
    before = Storage().burst(30).pace
    burst = Storage(pace=before, slow_at=20, slow=slow).burst(100)
    assert burst.errors == 0 and burst.done == 100
    assert burst.pace.open < before.open


def test_a_storage_too_slow_for_any_guess_costs_a_few_errors_and_fails_nobody():
    burst = Storage(clone_s=6.0, config_s=1.0).burst(60)
    assert burst.done == 60 and burst.errors <= 6


@pytest.mark.parametrize("alone_s, most", [(None, 3), (3.5, 3), (6.0, 3), (6.7, 4), (99.0, 5)])
def test_a_lock_that_is_no_queue_lets_few_wait_and_more_only_where_creates_are_long(alone_s, most):
    assert Pace(slots=8.0, alone_s=alone_s, is_polled=True).open == most


def test_what_went_wrong_once_is_not_soon_tried_again():
    pace = Pace(slots=4.0).after_congestion()
    assert pace.open == 2
    for _ in range(60):
        pace = pace.after_clone(took_s=5.0, inside=pace.open, is_loaded=True)
    assert pace.open == 3


def test_a_clone_that_nobody_waited_behind_says_nothing_of_the_storage():
    """Catches: one desktop an hour, each seconds long, and the next burst goes one by one."""
    pace = Pace()
    for _ in range(50):
        pace = pace.after_clone(took_s=30.0, inside=1, is_loaded=False)
    assert (pace.open, pace.clone_s) == (Pace().open, Pace().clone_s)


clones = st.tuples(st.floats(0, 1000), st.integers(1, MAX), st.booleans())


@given(st.lists(st.none() | clones, max_size=60))
def test_whatever_is_seen_somebody_may_enter_and_never_too_many(seen):
    pace = Pace()
    for one in seen:
        before, pace = pace, pace.after_clone(*one) if one else pace.after_congestion()
        assert 1 <= pace.open <= MAX
        if one is None:
            assert pace.slots == max(1.0, before.open / 2)
        else:
            assert pace.slots <= before.slots + 1
