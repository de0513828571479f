from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import ClassVar

import pytest
import yaml

from gateway.envoy.message import Message, plain, to_yaml


class Colour(Enum):
    RED = auto()


@dataclass(frozen=True, kw_only=True)
class Inner(Message):
    count: int | None = None


@dataclass(frozen=True, kw_only=True)
class Outer(Message):
    TYPE: ClassVar[str] = "envoy.test.Outer"

    zeta: str = "z"
    inner: Inner | None = None
    inners: tuple[Inner, ...] = ()
    wait: timedelta | None = None
    colour: Colour | None = None
    named: dict[str, Inner] | None = None
    odd: object = None


def test_says_its_type_and_leaves_out_what_is_unset() -> None:
    assert plain(Outer()) == {"@type": "type.googleapis.com/envoy.test.Outer", "zeta": "z"}


def test_keeps_an_empty_message() -> None:
    assert plain(Outer(inner=Inner()))["inner"] == {}


def test_keeps_false_and_zero() -> None:
    assert plain(Inner(count=0)) == {"count": 0}
    assert plain({"on": False}) == {"on": False}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (timedelta(0), "0s"),
        (timedelta(seconds=100), "100s"),
        (timedelta(milliseconds=250), "0.25s"),
        (timedelta(microseconds=1), "0.000001s"),
        (timedelta(hours=1, milliseconds=5), "3600.005s"),
    ],
)
def test_writes_durations_as_decimal_seconds(value: timedelta, text: str) -> None:
    assert plain(value) == text


def test_writes_enums_lists_and_maps() -> None:
    outer = Outer(colour=Colour.RED, inners=(Inner(count=1), Inner()), named={"a": Inner(count=2)})
    found = plain(outer)
    assert found["colour"] == "RED"
    assert found["inners"] == [{"count": 1}, {}]
    assert found["named"] == {"a": {"count": 2}}


def test_refuses_what_envoy_has_no_notation_for() -> None:
    with pytest.raises(TypeError, match="bytes"):
        plain(Outer(odd=b"raw"))


def test_yaml_keeps_the_order_of_fields_and_reads_back_the_same() -> None:
    text = to_yaml(Outer(wait=timedelta(seconds=1), inner=Inner(count=3)))
    assert text.index("zeta") < text.index("inner") < text.index("wait")
    assert yaml.safe_load(text)["inner"] == {"count": 3}
