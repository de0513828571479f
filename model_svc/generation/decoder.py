"""The process in which a model writes text: `python -m model_svc.generation.decoder OPTIONS`.

It answers one line of JSON with one, on its standard input and output, and ends with the
former. onnxruntime-genai holds the interpreter's lock while it computes, for as long as a
token takes: within the service it would hold up every other call.

The first line that it writes says what the model is, or why it cannot be loaded:

    {"context": 2048, "device": "cpu", "fallback": ""}      {"failed": "..."}

It is then asked to begin a text, for its next token, and to forget it:

    {"do": "begin", "id": 1, "prompt": "...", "messages": [...], "max_tokens": 256, "search": {...}}
        {"input_tokens": 12, "tokenize_us": 80}      {"too_long": 3000}
    {"do": "next", "id": 1}      {"text": "...", "finish": ""}      {"unknown": true}
    {"do": "drop", "id": 1}      {}

What it refuses is answered with {"refused": "..."}.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final

GENAI_FILE: Final = "genai_config.json"

_MICROSECONDS: Final = 1_000_000

# As those of `sessions.session`: threads that wait for their part of a run spin shortly.
_SESSION_OPTIONS: Final = {
    "session.intra_op.spin_duration_us": "10",
    "session.force_spinning_stop": "1",
}

_Json = dict[str, Any]


class Decoder:
    """One model, and the texts that it writes."""

    def __init__(self, genai: Any, folder: Path, *, threads: int, provider: str) -> None:
        """Loads the model.

        Args:
            genai: The package onnxruntime_genai.
            folder: Where its files are.
            threads: Threads of a CPU that share the work on a token.
            provider: Where it runs: `cpu`, `cuda`, or `auto` for what its files say, and the
                CPU if that cannot be had.

        Raises:
            Exception: It cannot be loaded; says why.
        """
        self._genai = genai
        self._folder = folder
        self._threads = threads
        self.fallback = ""
        try:
            self._model = self._open(provider)
        except Exception as error:
            if provider != "auto":
                raise
            try:
                self._model = self._open("cpu")
            except Exception:  # noqa: BLE001 - the first try says more
                raise error from None
            self.fallback = str(error)
        self._tokenizer = genai.Tokenizer(self._model)
        self._ends = frozenset(int(token) for token in self._tokenizer.eos_token_ids)
        written = json.loads((folder / GENAI_FILE).read_text(encoding="utf-8"))
        self._context = int(written["model"]["context_length"])
        self._texts: dict[int, tuple[Any, Any]] = {}

    def facts(self) -> _Json:
        """Returns what the model is."""
        device = "cpu" if self._model.device_type.lower() == "cpu" else "gpu"
        return {"context": self._context, "device": device, "fallback": self.fallback}

    def begin(self, asked: _Json) -> _Json:
        """Reads a prompt."""
        began = time.monotonic()
        prompt = asked["prompt"] or self._tokenizer.apply_chat_template(
            json.dumps(asked["messages"]), add_generation_prompt=True
        )
        tokens = self._tokenizer.encode(prompt)
        tokenize_us = int((time.monotonic() - began) * _MICROSECONDS)
        if len(tokens) >= self._context:
            return {"too_long": len(tokens)}
        if not len(tokens):
            return {"refused": "the prompt has no tokens"}
        params = self._genai.GeneratorParams(self._model)
        longest = min(self._context, len(tokens) + asked["max_tokens"])
        params.set_search_options(max_length=longest, **asked["search"])
        generator = self._genai.Generator(self._model, params)
        generator.append_tokens(tokens)
        self._texts[asked["id"]] = (generator, self._tokenizer.create_stream())
        return {"input_tokens": len(tokens), "tokenize_us": tokenize_us}

    def next(self, asked: _Json) -> _Json:
        """Writes the next token."""
        if asked["id"] not in self._texts:
            return {"unknown": True}
        generator, stream = self._texts[asked["id"]]
        generator.generate_next_token()
        token = int(generator.get_next_tokens()[0])
        if token in self._ends:
            return {"text": "", "finish": "stop"}
        return {"text": stream.decode(token), "finish": "length" if generator.is_done() else ""}

    def drop(self, asked: _Json) -> _Json:
        """Forgets a text."""
        self._texts.pop(asked["id"], None)
        return {}

    def answer(self, asked: _Json) -> _Json:
        """Does what is asked for."""
        work = {"begin": self.begin, "next": self.next, "drop": self.drop}[asked["do"]]
        try:
            return work(asked)
        except Exception as error:  # noqa: BLE001 - told to the caller
            return {"refused": str(error)}

    def _open(self, provider: str) -> Any:
        config = self._genai.Config(str(self._folder))
        options = {"intra_op_num_threads": self._threads, **_SESSION_OPTIONS}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
        if provider != "auto":
            config.clear_providers()
        if provider == "cuda":
            config.append_provider("cuda")
        return self._genai.Model(config)


def main() -> None:
    """Answers until nobody asks any more."""
    # Ctrl-C in a terminal reaches all processes, and so does a service manager that ends
    # them; this one ends with its service, once that has written what it was asked for.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    # What libraries print must not get among the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def send(answer: _Json) -> None:
        answers.write(json.dumps(answer).encode() + b"\n")

    options = json.loads(sys.argv[1])
    try:
        import onnxruntime_genai  # noqa: PLC0415 - an extra, and missed here only

        onnxruntime_genai.disable_telemetry_events()
        decoder = Decoder(
            onnxruntime_genai,
            Path(options["folder"]),
            threads=options["threads"],
            provider=options["provider"],
        )
    except ImportError:
        send(
            {
                "failed": "a model that writes text needs onnxruntime-genai: "
                "pip install 'stepwire[generate]'"
            }
        )
        return
    except Exception as error:  # noqa: BLE001 - told to whoever loads the model
        send({"failed": str(error)})
        return
    send(decoder.facts())
    for line in sys.stdin.buffer:
        send(decoder.answer(json.loads(line)))


if __name__ == "__main__":
    main()
