"""What is looked for in texts is found in a time that grows with the text, whatever it is."""

import re

import pytest

from router_svc.decide import complexity, features, kind, passage
from router_svc.providers import refusals, sources

PATTERNS = [
    pattern
    for module in (complexity, features, kind, passage, refusals, sources)
    for pattern in vars(module).values()
    if isinstance(pattern, re.Pattern)
]
# Where a pattern can begin at each place and reads on from there, a text of these takes
# many minutes; otherwise some hundredths of a second.
CHARACTERS = 100_000
REPEATED = ["\n", "\n ", "a", "1", ". ", "...", "how many ", "please ", "`", "[", "- "]


@pytest.mark.parametrize("repeated", REPEATED)
def test_no_text_takes_long_to_look_through(repeated: str) -> None:
    text = repeated * (CHARACTERS // len(repeated)) + "~"
    found = {pattern for pattern in PATTERNS if pattern.search(text)}
    # None of them has a command, a sum or an option, so that all of it is looked through.
    assert not found & {complexity.WRITING, complexity.MATHS, features._OPTION}


def test_commands_steps_and_quantities_are_seen_across_lines() -> None:
    assert complexity.WRITING.search("It rose.\n\n  \n\tWrite a poem")
    assert complexity.WRITING.search("Would you\nplease\nplan it")
    assert not complexity.WRITING.search("the long\tplan of it")
    assert complexity.MATHS.search("So how\nmany? How much is it,\nfor 5 of them")
    assert not complexity.MATHS.search("5 are known, but how many are there")
