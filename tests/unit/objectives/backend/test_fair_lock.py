"""Threads get a lock in the order in which they ask for it, or give up."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from objectives.backend import fair_lock
from objectives.backend.fair_lock import FairLock

PATIENCE = 10.0


@pytest.fixture(autouse=True)
def checks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair_lock, "CHECK_SECONDS", 0.001)


def ignore() -> None:
    pass


def give_up() -> None:
    raise InterruptedError


def take(lock: FairLock, asks: threading.Event, order: list[int], number: int) -> None:
    with lock.held(asks.set), lock.held(give_up):
        order.append(number)


def test_threads_get_it_in_the_order_in_which_they_ask() -> None:
    lock, order = FairLock(), list[int]()
    with ThreadPoolExecutor(8) as threads, lock.held(ignore):
        for number in range(8):
            asks = threading.Event()
            threads.submit(take, lock, asks, order, number)
            assert asks.wait(PATIENCE)
    assert order == list(range(8))


def test_thread_that_asks_again_gets_it_after_those_that_wait() -> None:
    lock, order, asks, holds = FairLock(), list[int](), threading.Event(), threading.Event()

    def hold_twice() -> None:
        with lock.held(ignore):
            holds.set()
            assert asks.wait(PATIENCE)
            order.append(0)
        with lock.held(ignore):
            order.append(2)

    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(hold_twice)
        assert holds.wait(PATIENCE)
        take(lock, asks, order, 1)
        first.result(PATIENCE)
    assert order == [0, 1, 2]


def test_thread_that_gives_up_leaves_it_to_the_next() -> None:
    lock, order, asks = FairLock(), list[int](), threading.Event()

    def wait() -> None:
        with pytest.raises(InterruptedError), lock.held(give_up):
            pass

    with ThreadPoolExecutor(2) as threads, lock.held(ignore):
        impatient = threads.submit(wait)
        impatient.result(PATIENCE)
        threads.submit(take, lock, asks, order, 1)
        assert asks.wait(PATIENCE)
    assert order == [1]


def test_error_in_its_block_releases_it() -> None:
    lock, order = FairLock(), list[int]()
    with pytest.raises(InterruptedError), lock.held(ignore):
        give_up()
    with ThreadPoolExecutor(1) as threads:
        threads.submit(take, lock, threading.Event(), order, 1).result(PATIENCE)
    assert order == [1]
