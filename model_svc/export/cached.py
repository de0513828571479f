"""Finds the ONNX model of a checkpoint among earlier exports, or has it exported now."""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from model_svc.export.checkpoint import CheckpointError, fingerprint
from model_svc.export.variants import Variant

MODEL_FILE: Final = "model.onnx"

# Part of the key of every export: to be raised whenever the graph that is written changes.
BUILDER_VERSION: Final = 3

# The sizes of an export's files, by their names.
_SIZES_FILE: Final = "sizes.json"

_DRAFT: Final = "draft-"
# An export takes seconds: what is older was left by a process that was killed.
_DRAFT_SECONDS: Final = 86_400


def exported_model(
    checkpoint: Path,
    cache: Path,
    *,
    variant: Variant = Variant.FLOAT32,
    packed: bool = True,
    timeout_seconds: float | None = None,
) -> Path:
    """Returns the path of the ONNX model that belongs to a checkpoint.

    An export takes a second or two and is done once per checkpoint and builder version.
    It is written beside and then renamed, so that several processes may start at once: a
    reader never sees half a model, and the last to finish uses what the first left. One
    that is damaged, as by a loss of power, is written again.

    Args:
        checkpoint: Folder of the weights.
        cache: Folder of earlier exports; made if it does not exist.
        variant: The kind of numbers that it computes with.
        packed: Whether padding is left out of the matrix products.
        timeout_seconds: How long the export may take; None for any time.

    Raises:
        CheckpointError: The checkpoint cannot be exported.
        OSError: The cache cannot be written.
    """
    kind = f"{variant}{'' if packed else ':padded'}"
    mark = fingerprint(checkpoint)
    wanted = f"{BUILDER_VERSION}:{kind}:{mark}"
    key = hashlib.sha256(wanted.encode()).hexdigest()
    home = cache / key[:32]
    if not _is_whole(home):
        cache.mkdir(parents=True, exist_ok=True)
        _remove_old_drafts(cache)
        draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=cache))
        try:
            _export(
                checkpoint, draft, variant=variant, packed=packed, timeout_seconds=timeout_seconds
            )
            if fingerprint(checkpoint) != mark:
                raise CheckpointError(f"{checkpoint} changed while it was exported")
            _write_sizes(draft)
            _publish(draft, home)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return home / MODEL_FILE


def _export(
    checkpoint: Path,
    target: Path,
    *,
    variant: Variant,
    packed: bool,
    timeout_seconds: float | None,
) -> None:
    # In a process of its own: the package onnx and the copies of the weights would stay
    # in this one's memory for good.
    try:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "model_svc.export", str(checkpoint), str(target)),
                *("--variant", variant.value),
                *([] if packed else ["--padded"]),
            ],
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=timeout_seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise CheckpointError(
            f"{checkpoint}: its export took longer than {error.timeout:g} seconds"
        ) from error
    if done.returncode != 0:
        raise CheckpointError(f"{checkpoint} cannot be exported: {done.stderr.strip()}")


def _publish(draft: Path, home: Path) -> None:
    draft.chmod(0o755)
    try:
        draft.rename(home)
    except OSError:
        if _is_whole(home):
            # Another process was faster; its result is the same.
            return
        shutil.rmtree(home)
        draft.rename(home)


def _write_sizes(folder: Path) -> None:
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    (folder / _SIZES_FILE).write_text(json.dumps(sizes), encoding="utf-8")


def _is_whole(home: Path) -> bool:
    """Whether all files of an export are there, in their sizes."""
    try:
        sizes = json.loads((home / _SIZES_FILE).read_text(encoding="utf-8"))
        return all((home / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def _remove_old_drafts(cache: Path) -> None:
    for draft in cache.glob(f"{_DRAFT}*"):
        try:
            if time.time() - draft.stat().st_mtime > _DRAFT_SECONDS:
                shutil.rmtree(draft, ignore_errors=True)
        except FileNotFoundError:
            # Its process is done with it.
            continue
