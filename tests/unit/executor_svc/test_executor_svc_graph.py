"""Cycles and the ids of items."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from executor_svc.graphs.graph import find_cycle, item_range, item_step_id

NODES = "abcdefg"
GRAPHS = st.dictionaries(
    st.sampled_from(NODES), st.lists(st.sampled_from(NODES), unique=True, max_size=4)
).map(lambda edges: {node: edges.get(node, []) for node in NODES})


def reaches_itself(edges, start):
    """Whether a walk of at least one edge leads from `start` to `start`."""
    reached = set(edges[start])
    for _ in NODES:
        reached |= {target for node in reached for target in edges[node]}
    return start in reached


@given(GRAPHS)
def test_a_cycle_is_found_if_there_is_one(edges):
    cycle = find_cycle(edges)
    assert bool(cycle) == any(reaches_itself(edges, node) for node in NODES)


@given(GRAPHS)
def test_what_is_found_is_a_cycle(edges):
    cycle = find_cycle(edges)
    if cycle:
        assert cycle[0] == cycle[-1]
        assert len(set(cycle)) == len(cycle) - 1
        # From a step to the one that depends on it.
        assert all(one in edges[other] for one, other in pairwise(cycle))


def test_a_long_chain_needs_no_recursion():
    edges = {str(number): [str(number + 1)] for number in range(20_000)}
    assert find_cycle({**edges, "20000": []}) == []
    assert len(find_cycle({**edges, "20000": ["0"]})) == 20_002


@given(st.integers(0, 10_000), st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True))
def test_the_range_of_a_step_holds_its_items_and_nothing_else(index, name):
    first, last = item_range(name)
    assert first < item_step_id(name, index) < last
    for other in (name, f"{name}0", f"{name}_", f"{name}a", item_step_id(f"{name}a", index)):
        assert not first < other < last
