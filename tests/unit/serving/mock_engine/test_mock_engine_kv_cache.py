"""The block pool: sharing, eviction order and room."""

from __future__ import annotations

from rayserve_par.serving.mock_engine.kv_cache import KvCache

A, B, C, D = b"A", b"B", b"C", b"D"


def hold_and_release(cache: KvCache, *names: bytes) -> None:
    """A sequence that fills `names` and ends."""
    assert cache.take(len(names))
    assert all(cache.publish(name) for name in names)
    cache.release(names, 0)


def test_released_blocks_are_found_and_count_as_free() -> None:
    cache = KvCache(4)
    hold_and_release(cache, A, B)
    assert (cache.used_blocks, cache.idle_blocks, cache.free_blocks) == (0, 2, 4)
    assert cache.found([A, B, C]) == 2
    assert cache.found([B]) == 1
    assert cache.found([C, A]) == 0


def test_ends_go_before_beginnings_and_old_before_new() -> None:
    cache = KvCache(4)
    hold_and_release(cache, A, B)
    hold_and_release(cache, C)
    assert cache.take(2)  # one unused block, then the end of the oldest sequence
    assert [cache.found([name]) for name in (A, B, C)] == [1, 0, 1]
    assert cache.take(1)
    assert [cache.found([name]) for name in (A, C)] == [0, 1]


def test_finding_a_block_again_saves_it_from_eviction() -> None:
    cache = KvCache(3)
    hold_and_release(cache, A)
    hold_and_release(cache, B)
    assert cache.admit([A], 0)
    cache.release([A], 0)
    assert cache.take(2)
    assert [cache.found([A]), cache.found([B])] == [1, 0]


def test_shared_blocks_count_once_and_stay_until_the_last_holder_leaves() -> None:
    cache = KvCache(4)
    hold_and_release(cache, A, B)
    assert cache.admit([A, B], 1)
    assert cache.admit([A, B], 1)
    assert cache.used_blocks == 4
    assert not cache.take(1)
    cache.release([A, B], 1)
    assert (cache.used_blocks, cache.idle_blocks) == (3, 0)
    cache.release([A, B], 1)
    assert (cache.used_blocks, cache.idle_blocks) == (0, 2)


def test_waking_idle_blocks_uses_up_room() -> None:
    cache = KvCache(3)
    hold_and_release(cache, A, B)
    assert not cache.admit([A, B], 2)  # three free blocks, two of them the found ones
    assert cache.used_blocks == 0
    assert cache.admit([A, B], 1)


def test_a_second_copy_stays_private() -> None:
    cache = KvCache(2)
    assert cache.take(2)
    assert cache.publish(A)
    assert not cache.publish(A)
    cache.release([A], 1)
    assert (cache.idle_blocks, cache.free_blocks) == (1, 2)
