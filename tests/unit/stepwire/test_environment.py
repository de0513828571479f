import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from stepwire.environment import misspelt, read_settings
from stepwire.telemetry.logs import CHATTY, SILENT


class HarbourSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="STEPWIRE_HARBOUR_")
    berths: int = Field(default=10, ge=1)
    opening_days: float = 7
    modules: tuple[str, ...] = ()


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in (*CHATTY, *SILENT):
        logging.getLogger(name).setLevel(logging.NOTSET)
    logging.captureWarnings(capture=False)


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(capsys.readouterr().err.splitlines()[-1])
    return line


def test_settings_are_read_from_the_environment(monkeypatch):
    monkeypatch.setenv("STEPWIRE_HARBOUR_BERTHS", "12")
    assert read_settings(HarbourSettings).berths == 12


def test_all_that_is_wrong_is_named_by_its_variable_without_its_value(monkeypatch, capsys):
    monkeypatch.setenv("STEPWIRE_HARBOUR_BERTHS", "0")
    monkeypatch.setenv("STEPWIRE_HARBOUR_OPENING_DAYS", "s3cret")
    with pytest.raises(SystemExit) as ended:
        read_settings(HarbourSettings)
    assert ended.value.code == 1
    line = last_line(capsys)
    assert (line["level"], line["service"]) == ("CRITICAL", "harbour")
    assert line["message"].startswith("cannot start: STEPWIRE_HARBOUR_BERTHS: ")
    assert "; STEPWIRE_HARBOUR_OPENING_DAYS: " in line["message"]
    assert "s3cret" not in line["message"]


def test_what_is_no_json_is_named_by_its_variable(monkeypatch, capsys):
    monkeypatch.setenv("STEPWIRE_HARBOUR_MODULES", "mine")
    with pytest.raises(SystemExit):
        read_settings(HarbourSettings)
    assert last_line(capsys)["message"] == "cannot start: STEPWIRE_HARBOUR_MODULES: is not JSON"


def test_a_misspelt_variable_is_told_and_others_are_passed_over():
    environment = {
        "STEPWIRE_HARBOUR_OPENING_DAYZ": "3",
        "STEPWIRE_HARBOUR_OPENING_DAYS": "3",
        "STEPWIRE_HARBOUR_SERVICE_HOST": "10.0.0.1",
        "STEPWIRE_HARBER_BERTH": "1",
    }
    assert list(misspelt(HarbourSettings, environment)) == [
        ("STEPWIRE_HARBOUR_OPENING_DAYZ", "STEPWIRE_HARBOUR_OPENING_DAYS")
    ]
