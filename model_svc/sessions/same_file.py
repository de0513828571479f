"""Keeps a model from going over to another file that lies in its place by then."""

from pathlib import Path

from model_svc.file_marks import file_mark
from model_svc.sessions.devices import Device
from model_svc.sessions.engine import Open, Runnable
from model_svc.sessions.errors import ModelLoadError


def same_file(path: Path, open_: Open) -> Open:
    """Opens a file for as long as it is the one that is there now.

    A device may fail long after a model was loaded, when other weights lie in its place.

    Raises:
        ModelLoadError: The file cannot be looked at; later, from what is returned: it has
            changed.
    """
    try:
        loaded = file_mark(path)
    except OSError as error:
        raise ModelLoadError(f"{path}: {error}") from error

    def open_same(device: Device, threads: int) -> Runnable:
        try:
            same = file_mark(path) == loaded
        except OSError:
            same = False
        if not same:
            raise ModelLoadError(f"{path} has changed since it was loaded")
        return open_(device, threads)

    return open_same
