"""The rendered configuration, line by line, so that a change of it is seen and meant.

After a meant change: UPDATE_GOLDEN=1 python -m pytest tests/unit/gateway/test_gateway_golden.py
"""

import os
from pathlib import Path

from gateway.config import render
from gateway.settings import GatewaySettings

DESCRIPTORS = Path("/etc/stepwire/descriptors.binpb")
GOLDEN = Path(__file__).with_name("golden") / "default.yaml"


def test_default_configuration_is_the_golden_one() -> None:
    rendered = render(GatewaySettings(), descriptors=DESCRIPTORS)
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(rendered, encoding="utf-8")
    assert rendered == GOLDEN.read_text(encoding="utf-8")


def test_configuration_names_no_path_of_this_machine() -> None:
    assert str(Path.cwd()) not in render(GatewaySettings(), descriptors=DESCRIPTORS)
