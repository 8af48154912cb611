"""Bursts on a cluster that locks its storages as Proxmox VE does, in virtual time. The same bursts
without admission, and without leased numbers, must go wrong: else the simulator is too kind, and
the other tests here prove nothing."""

import pytest

from support.burst import Burst

TOO_KIND = "the simulator is too kind: without this guard nothing went wrong"


@pytest.mark.parametrize("count, nodes", [(10, 1), (50, 1), (50, 16), (200, 16)])
def test_a_burst_keeps_the_locks_busy_and_loses_nothing(tmp_path, count, nodes):
    (burst,) = Burst(tmp_path, nodes).run(count)
    assert (burst.lock_errors, burst.lost_or_doubled, burst.failed) == (0, 0, [])
    assert burst.share >= 0.9


def test_one_alone_waits_for_nobody(tmp_path):
    (burst,) = Burst(tmp_path).run(1)
    assert (burst.lock_errors, burst.lost_or_doubled, burst.failed) == (0, 0, [])
    assert burst.took_s < 3


@pytest.mark.parametrize("nodes", [1, 4])
def test_on_a_storage_that_all_share_no_lock_is_missed_either(tmp_path, nodes):
    (burst,) = Burst(tmp_path, nodes, is_shared=True).run(50)
    best = max(
        (Burst(tmp_path, nodes, is_shared=True, fixed=slots).run(50)[0] for slots in (2, 3, 4)),
        key=lambda one: (one.lock_errors == 0, one.share),
    )
    assert (burst.lock_errors, burst.lost_or_doubled) == (0, 0)
    assert burst.share >= 0.9 * best.share


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("is_shared", [False, True])
def test_one_burst_after_another_on_a_storage_that_is_known_by_then(tmp_path, seed, is_shared):
    for burst in Burst(tmp_path, 1, is_shared=is_shared, seed=seed).run(40, 40):
        assert (burst.lock_errors, burst.lost_or_doubled) == (0, 0)


@pytest.mark.parametrize("is_shared", [False, True])
def test_without_admission_the_same_burst_sees_lock_errors(tmp_path, is_shared):
    (burst,) = Burst(tmp_path, 1, is_shared=is_shared, is_admitted=False).run(50)
    assert burst.lock_errors > 0, TOO_KIND


def test_with_numbers_left_to_nextid_clones_fail_or_are_lost(tmp_path):
    (burst,) = Burst(tmp_path, 4, is_leased=False).run(50)
    assert burst.failed, TOO_KIND
    assert any("already exists" in said for said in burst.failed), burst.failed
