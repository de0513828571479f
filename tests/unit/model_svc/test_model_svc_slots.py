import asyncio

from model_svc.running.slots import ComputePool, Share


class Worker:
    """A model that always has work; one batch of it takes so long."""

    def __init__(
        self, pool: ComputePool, seconds: float, *, weight: float = 1, limit: int = 0
    ) -> None:
        self.seconds = seconds
        self.batches = 0
        self.running = 0
        self.alone: list[bool] = []
        self.left = 10**9
        self.share: Share = pool.join(self.start, weight=weight, limit=limit)

    def start(self, alone: bool) -> bool:  # noqa: FBT001
        if not self.left:
            return False
        self.left -= 1
        self.batches += 1
        self.running += 1
        self.alone.append(alone)
        return True

    def end_one(self) -> None:
        self.running -= 1
        self.share.ended(self.seconds)


def run(workers: list[Worker], seconds: float) -> None:
    """Lets batches end in the order of their ends until so much time has passed."""
    ends: list[tuple[float, int]] = []
    started = [worker.batches - worker.running for worker in workers]
    now = 0.0
    for worker in workers:
        worker.share.wake()
    while now < seconds:
        for index, worker in enumerate(workers):
            while started[index] < worker.batches:
                started[index] += 1
                ends.append((now + worker.seconds, index))
        ends.sort()
        now, index = ends.pop(0)
        workers[index].end_one()


def test_models_get_the_same_time_however_long_their_batches_take() -> None:
    pool = ComputePool(1)
    quick, slow = Worker(pool, 0.01), Worker(pool, 0.1)
    run([quick, slow], 100)
    assert abs(quick.batches * quick.seconds - slow.batches * slow.seconds) < 1


def test_a_weight_is_a_share_of_the_time() -> None:
    pool = ComputePool(2)
    one, three = Worker(pool, 0.01), Worker(pool, 0.03, weight=3)
    run([one, three], 100)
    assert 2.8 < (three.batches * three.seconds) / (one.batches * one.seconds) < 3.2


def test_a_model_that_was_idle_has_saved_nothing_up() -> None:
    pool = ComputePool(1)
    busy, late = Worker(pool, 0.01), Worker(pool, 0.01)
    run([busy], 50)
    before = busy.batches
    run([busy, late], 10)
    assert abs((busy.batches - before) - late.batches) < 20


def test_a_model_has_no_more_batches_than_instances() -> None:
    pool = ComputePool(3)
    worker = Worker(pool, 1, limit=2)
    worker.share.wake()
    assert worker.running == 2
    assert worker.alone == [True, False]


def test_slots_that_are_free_go_to_who_comes() -> None:
    pool = ComputePool(2)
    first, second = Worker(pool, 1), Worker(pool, 1)
    first.left = 1
    first.share.wake()
    second.share.wake()
    assert (first.running, second.running) == (1, 1)
    assert (first.alone, second.alone) == ([True], [False])
    second.end_one()
    assert second.running == 1


async def test_a_model_that_leaves_gets_no_slots() -> None:
    pool = ComputePool(1)
    worker, other = Worker(pool, 1), Worker(pool, 1)
    worker.left = 1
    worker.share.wake()
    worker.end_one()
    worker.share.leave()
    other.share.wake()
    await asyncio.sleep(0)
    assert (worker.running, other.running) == (0, 1)


def test_the_slots_of_a_model_that_leaves_are_free_when_its_batches_have_ended() -> None:
    pool = ComputePool(2)
    leaving, staying = Worker(pool, 0), Worker(pool, 1)
    leaving.share.wake()
    assert leaving.running == 2
    leaving.share.leave()
    staying.share.wake()
    assert staying.running == 0
    leaving.end_one()
    assert (leaving.running, staying.running) == (1, 1)
    leaving.end_one()
    assert (leaving.running, staying.running) == (0, 2)


def test_a_model_may_leave_when_it_is_given_a_slot() -> None:
    pool = ComputePool(1)

    def start(_alone: bool) -> bool:  # noqa: FBT001
        share.leave()
        return False

    share = pool.join(start)
    staying = Worker(pool, 1)
    share.wake()
    staying.share.wake()
    assert staying.running == 1
    assert pool.is_empty is False
    staying.left = 0
    staying.end_one()
    staying.share.leave()
    assert pool.is_empty
