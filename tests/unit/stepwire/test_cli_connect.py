"""Which gateway a command calls."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from stepwire.cli.app import app
from stepwire.cli.exits import ExitCode
from stepwire.stack.mark import ProcessMark
from stepwire.stack.state import Phase, StackState, write_state

runner = CliRunner()
NOBODY = ProcessMark(pid=1, started=0, boot="gone")


def told(home: Path, **environment: str) -> tuple[int, str]:
    variables = {"STEPWIRE_GATEWAY": "", "STEPWIRE_PORT_OFFSET": "", "STEPWIRE_GATEWAY_PORT": ""}
    result = runner.invoke(
        app, ["tasks", "list", "--home", str(home)], env={**variables, **environment}
    )
    return result.exit_code, result.output


@pytest.mark.parametrize("phase", [Phase.READY, Phase.STOPPED])
def test_a_stack_that_does_not_run_is_called_at_its_own_address(
    tmp_path: Path, phase: Phase
) -> None:
    write_state(
        tmp_path,
        StackState(
            phase=phase,
            supervisor=NOBODY,
            port_offset=9,
            workers=2,
            broker="rabbitmq",
            gateway="127.0.0.1:9",
        ),
    )
    code, text = told(tmp_path)
    assert code == ExitCode.UNAVAILABLE
    assert "error: nothing answers at 127.0.0.1:9 " in text


def test_where_no_stack_was_the_variables_of_up_say_the_address(tmp_path: Path) -> None:
    code, text = told(tmp_path, STEPWIRE_GATEWAY_PORT="9")
    assert code == ExitCode.UNAVAILABLE
    assert "error: nothing answers at 127.0.0.1:9 " in text


@pytest.mark.parametrize(
    ("offset", "complaint"),
    [
        ("much", "STEPWIRE_PORT_OFFSET='much' is not a number"),
        ("60000", "the port offset 60000 gives gateway the port 68080"),
    ],
)
def test_a_wrong_offset_is_told(tmp_path: Path, offset: str, complaint: str) -> None:
    code, text = told(tmp_path, STEPWIRE_PORT_OFFSET=offset)
    assert code == ExitCode.REFUSED
    assert complaint in text
