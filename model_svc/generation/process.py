"""A model's own process, as the service sees it."""

import atexit
import contextlib
import json
import logging
import selectors
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final, cast

from model_svc.file_marks import FileMark, file_mark
from model_svc.running.plan import Provider
from model_svc.sessions.devices import Device
from model_svc.sessions.errors import ModelLoadError

_logger = logging.getLogger(__name__)

_MODULE: Final = "model_svc.generation.decoder"
_END_SECONDS: Final = 5.0


class DecoderDiedError(Exception):
    """The process ended while it was needed, and with it what it had begun; says how."""


class DecoderProcess:
    """One model in a process of its own; blocking, and to be used from one thread at a time.

    A process that died is started again for the next text, with the files that it had.

    Attributes:
        context: Tokens of a prompt and its continuation together, at most.
        device: Where the model runs.
        fallback: Why it does not run where it was to run; empty if it does.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        threads: int,
        provider: Provider,
        load_seconds: float,
    ) -> None:
        """Starts it.

        Args:
            name: The model's name, for errors.
            folder: Where its files are.
            threads: Threads of a CPU that share the work on a token.
            provider: Where it is to run.
            load_seconds: How long it may take to load, each time that it is started.

        Raises:
            ModelLoadError: The model cannot be loaded.
        """
        self._name = name
        self._folder = folder
        self._load_seconds = load_seconds
        self._files = _marks(folder)
        self._options = json.dumps(
            {"folder": str(folder), "threads": threads, "provider": provider}
        )
        self._start()

    def ask(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the answer to one line; see `decoder`.

        Raises:
            DecoderDiedError: The process died.
        """
        if self._process.poll() is not None:
            if asked["do"] != "begin":
                raise DecoderDiedError(self._died())
            self._start_again()
        try:
            self._input.write(json.dumps(asked).encode() + b"\n")
            self._input.flush()
            return self._read()
        except (OSError, ValueError) as error:
            died = self._died()
            _logger.error("a model's process died", extra={"error": died})  # noqa: TRY400
            raise DecoderDiedError(died) from error

    def drop(self, number: int) -> None:
        """Forgets a text, if the process still has it."""
        if self._process.poll() is None:
            with contextlib.suppress(DecoderDiedError):
                self.ask({"do": "drop", "id": number})

    def kill(self) -> None:
        """Ends the process at once; may be called from any thread."""
        self._process.kill()

    def close(self) -> None:
        """Ends the process."""
        if self._input.closed:
            return
        try:
            self._process.communicate(timeout=_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", _MODULE, self._options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._input = cast("IO[bytes]", self._process.stdin)
        self._output = cast("IO[bytes]", self._process.stdout)
        # One that hangs does not notice that nobody is there any more.
        atexit.register(self._process.kill)
        try:
            facts = self._read_first()
        except ValueError as error:
            raise ModelLoadError(f"{self._died()} while loading") from error
        finally:
            atexit.unregister(self._process.kill)
        if "failed" in facts:
            self.close()
            raise ModelLoadError(f"model {self._name}: {facts['failed']}")
        self.context: int = facts["context"]
        self.device = Device(facts["device"])
        self.fallback: str = facts["fallback"]

    def _read_first(self) -> dict[str, Any]:
        with selectors.DefaultSelector() as selector:
            selector.register(self._output, selectors.EVENT_READ)
            if selector.select(self._load_seconds):
                return self._read()
        self.kill()
        self.close()
        raise ModelLoadError(
            f"model {self._name}: loading took longer than {self._load_seconds:g} seconds"
        )

    def _start_again(self) -> None:
        died = self._died()
        try:
            same = _marks(self._folder) == self._files
        except OSError:
            same = False
        if not same:
            # Another model than the one that callers know.
            raise DecoderDiedError(f"{died}, and its files have changed since it was loaded")
        try:
            self._start()
        except ModelLoadError as error:
            raise DecoderDiedError(str(error)) from error

    def _died(self) -> str:
        """Lets go of a process that died; returns what to say."""
        self.close()
        return f"model {self._name}: its process died with exit code {self._process.returncode}"

    def _read(self) -> dict[str, Any]:
        """One answer; raises ValueError at their end."""
        answer: dict[str, Any] = json.loads(self._output.readline())
        return answer


def _marks(folder: Path) -> dict[str, FileMark]:
    return {path.name: file_mark(path) for path in folder.iterdir()}
