"""The page of settings says what the settings are."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_is_up_to_date() -> None:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import settings_reference  # noqa: PLC0415 - a script, not a package
    finally:
        sys.path.pop(0)
    assert settings_reference.PAGE.read_text("utf-8") == settings_reference.page()
