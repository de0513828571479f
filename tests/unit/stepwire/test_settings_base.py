import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsConfigDict

from stepwire.settings import MEBIBYTE, ProcessSettings, ServiceSettings


class ToySettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="STEPWIRE_TOY_", frozen=True)
    port: int = 50099


def test_a_service_has_the_documented_defaults():
    settings = ToySettings()
    assert (settings.host, settings.port, settings.metrics_port) == ("127.0.0.1", 50099, 0)
    assert settings.max_concurrent_calls == 1024
    assert settings.max_message_bytes == 4 * MEBIBYTE
    assert settings.default_deadline_seconds <= settings.max_deadline_seconds
    assert settings.reflection is True


def test_the_environment_overrides_a_default(monkeypatch):
    monkeypatch.setenv("STEPWIRE_TOY_PORT", "50100")
    monkeypatch.setenv("STEPWIRE_TOY_LOG_LEVEL", "DEBUG")
    settings = ToySettings()
    assert (settings.port, settings.log_level) == (50100, "DEBUG")


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        ToySettings().port = 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 65536},
        {"metrics_port": -1},
        {"max_concurrent_calls": 0},
        {"drain_seconds": 0},
        {"log_level": "LOUD"},
        {"event_loop": "trio"},
    ],
)
def test_a_value_outside_its_limits_is_refused(wrong):
    with pytest.raises(ValidationError):
        ServiceSettings(**{"port": 0} | wrong)


@pytest.mark.parametrize("settings", [ProcessSettings, ServiceSettings])
def test_every_field_has_a_description(settings):
    assert [name for name, field in settings.model_fields.items() if not field.description] == []
