"""After a kill no thread of the process says anything more, until another process begins."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from marketplace.simulation.crash import Failpoints, Killed


def test_after_the_kill_every_thread_dies_at_its_next_word():
    points = Failpoints()
    points.arm(2)
    points.reach()
    points.reach()
    with pytest.raises(Killed):
        points.reach()
    with ThreadPoolExecutor(4) as pool:
        for told in [pool.submit(points.reach) for _ in range(8)]:
            with pytest.raises(Killed):
                told.result()
    assert (points.kills, points.passed) == (1, 3)


def test_another_process_lives():
    points = Failpoints()
    points.arm(0)
    with pytest.raises(Killed):
        points.reach()
    points.arm(None)
    points.reach()
    assert (points.kills, points.passed) == (1, 2)


def test_one_kill_however_many_threads():
    points = Failpoints()
    points.arm(50)
    with ThreadPoolExecutor(8) as pool:
        told = [pool.submit(points.reach) for _ in range(200)]
        dead = sum(isinstance(one.exception(), Killed) for one in told)
    assert (points.kills, points.passed, dead) == (1, 51, 150)
