"""RabbitMQ as a private node: own folders, own user, loopback only, no plugins.

The installed package's server script is run with every path pointed into one folder, so
that nothing of a system-wide node is read or touched. The node takes part in no cluster:
Erlang's distribution does not listen and no epmd is started, so that the AMQP port is
the only one it opens and any number of nodes run side by side.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pika
import pika.exceptions

from stepwire.stack.ports import LOOPBACK
from stepwire.stack.process import Command

USER = "stepwire"
SERVER_SCRIPT = "rabbitmq-server"
# Debian's script on PATH insists on being root or the user rabbitmq; the one it wraps
# does not.
KNOWN_SCRIPTS = (Path("/usr/lib/rabbitmq/bin") / SERVER_SCRIPT,)
CONNECT_TIMEOUT_SECONDS = 2.0

SETTINGS = """\
listeners.tcp.1 = 127.0.0.1:{port}
num_acceptors.tcp = 2
default_user = {user}
default_pass = {password}
loopback_users.{user} = true
log.console = true
log.console.level = warning
log.file = false
vm_memory_high_watermark.absolute = 512MB
collect_statistics_interval = 30000
"""

# Two schedulers that sleep when idle leave the cores to the services; a fixed
# distribution port is never opened, but without one the node would ask epmd.
ERLANG_ARGUMENTS = (
    "-sname stepwire@localhost -start_epmd false -erl_epmd_port 1 -dist_listen false "
    "+S 2:2 +SDcpu 1:1 +sbwt none +sbwtdcpu none +sbwtdio none"
)


@dataclass(frozen=True, kw_only=True)
class RabbitServer:
    """One private node.

    Attributes:
        script: The server's start script, from `find_script`.
        folder: Holds the node's data, log and cookie.
        port: The AMQP port on 127.0.0.1.
        password: The password of the node's only user, fixed when the data is made.
    """

    script: Path
    folder: Path
    port: int
    password: str

    @property
    def url(self) -> str:
        """The AMQP URL, credentials included."""
        return url_of(self.port, self.password)

    def prepare(self) -> None:
        """Makes the node's folders and writes its settings."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        for name in ("home", "data", "log"):
            (self.folder / name).mkdir(exist_ok=True)
        settings = SETTINGS.format(port=self.port, user=USER, password=self.password)
        (self.folder / "rabbitmq.conf").write_text(settings)
        (self.folder / "enabled_plugins").write_text("[].\n")

    def command(self) -> Command:
        """Returns the command that runs the node in the foreground."""
        folder = str(self.folder)
        return Command(
            arguments=(str(self.script),),
            environment={
                "PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/bin:/sbin:/bin",
                "LANG": "C.UTF-8",
                # Holds the Erlang cookie.
                "HOME": f"{folder}/home",
                # The script then becomes the server instead of waiting for it as a parent.
                "RUNNING_UNDER_SYSTEMD": "true",
                "RABBITMQ_NODENAME": "stepwire@localhost",
                "RABBITMQ_CONF_ENV_FILE": "/dev/null",
                "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
                "RABBITMQ_CONFIG_FILES": f"{folder}/conf.d",
                "RABBITMQ_ADVANCED_CONFIG_FILE": f"{folder}/advanced.config",
                "RABBITMQ_MNESIA_BASE": f"{folder}/data",
                "RABBITMQ_MNESIA_DIR": f"{folder}/data/node",
                "RABBITMQ_LOG_BASE": f"{folder}/log",
                "RABBITMQ_LOGS": "-",
                "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins",
                "RABBITMQ_PLUGINS_EXPAND_DIR": f"{folder}/plugins",
                "RABBITMQ_FEATURE_FLAGS_FILE": f"{folder}/feature_flags",
                "RABBITMQ_PID_FILE": f"{folder}/pid",
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG_ARGUMENTS,
            },
            folder=self.folder,
            # A signal that arrives while the node boots is lost.
            stop_again_seconds=1.0,
        )


def url_of(port: int, password: str) -> str:
    """Returns the AMQP URL of a node started here."""
    return f"amqp://{USER}:{password}@{LOOPBACK}:{port}/%2F"


def find_script() -> Path | None:
    """Returns the start script of an installed RabbitMQ, or None."""
    for script in KNOWN_SCRIPTS:
        if os.access(script, os.X_OK):
            return script
    found = shutil.which(SERVER_SCRIPT)
    return Path(found) if found is not None else None


def is_ready(url: str) -> bool:
    """Returns whether a login at `url` succeeds. Blocks for a few seconds at most.

    Raises:
        pika.exceptions.ProbableAuthenticationError: The broker refuses the credentials.
    """
    parameters = pika.URLParameters(url)
    parameters.socket_timeout = CONNECT_TIMEOUT_SECONDS
    parameters.blocked_connection_timeout = CONNECT_TIMEOUT_SECONDS
    try:
        pika.BlockingConnection(parameters).close()
    except pika.exceptions.ProbableAuthenticationError:
        raise
    except pika.exceptions.AMQPConnectionError:
        return False
    return True
