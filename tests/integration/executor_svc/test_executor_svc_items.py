"""Steps that run once per item."""

import pytest

from tests.integration.executor_svc.executor_functions import noted
from tests.integration.executor_svc.executor_mesh import (
    NO_RETRY,
    graph,
    output_of,
    python,
    state_of,
    steps_of,
    transform,
)


@pytest.mark.parametrize("count", [0, 1, 2, 500])
async def test_outputs_are_gathered_in_order(client, count):
    task = await client.run(
        graph(
            transform("each", "item * 10 + index", for_each="input"),
            transform("after", "value", depends_on=["each"]),
        ),
        list(range(count)),
    )
    assert state_of(task) == "SUCCEEDED", task
    assert output_of(task) == [number * 11 for number in range(count)]
    steps = steps_of(task)
    assert output_of(steps["each"]) == output_of(task)
    assert len(steps) == count + 2
    history = await client.history(task.task_id)
    assert history.count("STEP_SUCCEEDED each 1") == 1
    assert len(history) == len(set(history))


async def test_items_stand_behind_their_step(client):
    task = await client.run(graph(transform("e", "item", for_each="[5, 6]"), transform("z", "1")))
    assert [step.step_id for step in task.steps] == ["e", "e[0]", "e[1]", "z"]


async def test_items_of_items(client):
    """A for_each over what a for_each gave, and a join of both."""
    task = await client.run(
        graph(
            transform("outer", "[item, item + 1]", for_each="input"),
            transform("inner", "item.map(x, x * 2)", for_each="steps.outer", depends_on=["outer"]),
            transform("sizes", "size(item)", for_each="steps.outer", depends_on=["outer"]),
            transform(
                "join",
                "{'inner': steps.inner, 'sizes': steps.sizes}",
                depends_on=["inner", "sizes"],
            ),
        ),
        [1, 10, 100],
    )
    assert output_of(task) == {"inner": [[2, 4], [20, 22], [200, 202]], "sizes": [2, 2, 2]}


async def test_the_default_input_is_the_item(client):
    task = await client.run(graph(python("each", "echo", for_each="input")), ["a", {"b": 1}])
    assert output_of(task) == ["a", {"b": 1}]


async def test_an_item_that_fails_fails_the_task(client):
    task = await client.run(graph(transform("each", "10 / item", for_each="[1, 0]")))
    assert state_of(task) == "FAILED"
    assert task.failure.step_id == "each[1]"
    assert state_of(steps_of(task)["each"]) == "WAITING"


async def test_after_retry_only_the_failed_item_runs_again(client, tmp_path):
    path, needs = tmp_path / "notes", tmp_path / "needed"
    common = {"path": str(path), "needs": str(needs), "bad": 3}
    task_id = await client.create(
        graph(
            python("each", "need_file_for_item", for_each="input", retry=NO_RETRY),
            transform("after", "value", depends_on=["each"]),
        ),
        [{**common, "item": number} for number in range(6)],
    )
    assert (await client.wait(task_id)).failure.step_id == "each[3]"
    needs.touch()
    await client.retry(task_id)
    task = await client.wait(task_id)
    assert output_of(task) == list(range(6))
    starts = [line.split()[0] for line in noted(path)]
    assert starts.count("each[3]") == 2
    assert sorted(set(starts)) == [f"each[{number}]" for number in range(6)]
    assert len(starts) == 7


@pytest.mark.parametrize("items", ["'text'", "{'a': 1}", "1"])
async def test_items_must_be_a_list(client, items):
    task = await client.run(graph(transform("each", "item", for_each=items)))
    assert task.failure.reason == "FIELD_INVALID"
    assert task.failure.metadata == {"field": "for_each"}


async def test_more_items_than_allowed_fail_the_step(client):
    task = await client.run(graph(transform("each", "item", for_each="input")), [0] * 10_001)
    assert task.failure.reason == "FIELD_INVALID"
    assert "10001 items are more than 10000" in task.failure.message


async def test_more_bytes_of_items_than_allowed_fail_the_step(client):
    task = await client.run(
        graph(transform("each", "1", for_each="input.numbers.map(n, input.text)")),
        {"numbers": list(range(40)), "text": "x" * 500_000},
    )
    assert task.failure.reason == "OUTPUT_TOO_LARGE"


async def test_more_bytes_of_outputs_together_than_allowed_fail_the_step(mesh):
    all_of_them = {"mode": "JOIN_MODE_AT_LEAST", "at_least": 66}
    async with mesh.worker(max_payload_bytes=1024):
        for join in (None, all_of_them):
            what = graph(
                python("each", "big", for_each="input", items_join=join),
                transform("count", "size(value)", depends_on=["each"]),
            )
            task = await mesh.client.run(what, [998] * 64 + [10] * 2)
            assert output_of(task) == 66
            task = await mesh.client.run(what, [1000] * 66)
            assert (task.failure.step_id, task.failure.reason) == ("each", "OUTPUT_TOO_LARGE")
            assert task.failure.metadata == {"size_bytes": "66132", "limit_bytes": "65536"}
