"""How long clients of OpenAI's API say they wait."""

import pytest

from router_svc.openai_api.dialect import OpenAIDialect
from stepwire.http import Asked


@pytest.mark.parametrize(
    ("headers", "whole", "stream"),
    [
        ({}, None, None),
        # By Python, and by JavaScript.
        ({"x-stainless-read-timeout": "600"}, 600, None),
        ({"x-stainless-timeout": "90"}, 90, None),
        ({"x-stainless-read-timeout": "None", "x-stainless-timeout": "-1"}, None, None),
        ({"x-stepwire-timeout-seconds": "2.5", "x-stainless-timeout": "90"}, 2.5, 2.5),
    ],
)
def test_the_time_that_a_client_has_is_read(
    headers: dict[str, str], whole: float | None, stream: float | None
) -> None:
    asked, dialect = Asked("/v1/chat/completions", headers), OpenAIDialect()
    assert dialect.timeout_seconds(asked, stream=False) == whole
    assert dialect.timeout_seconds(asked, stream=True) == stream
