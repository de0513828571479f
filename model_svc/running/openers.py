"""What loads a model's sessions, on whichever device: now, and on the CPU when a GPU fails."""

from pathlib import Path

from model_svc.export.cached import exported_model
from model_svc.export.checkpoint import CheckpointError
from model_svc.export.variants import Variant
from model_svc.sessions.bound import BoundSession
from model_svc.sessions.devices import Device
from model_svc.sessions.errors import ModelLoadError
from model_svc.sessions.memory import GpuMemory
from model_svc.sessions.session import Session
from model_svc.settings import ModelSettings


def open_plain(path: Path, memory: GpuMemory, device: Device, threads: int) -> Session:
    """Opens a model that is run with arrays.

    Raises:
        DeviceError: The device cannot be used.
        ModelLoadError: It cannot be served.
    """
    return Session(path, device=device, threads=threads, memory=memory)


def open_text(path: Path, memory: GpuMemory, device: Device, threads: int) -> Session:
    """Opens an encoder of somebody else's; raises as `open_plain`."""
    if device is Device.CPU:
        return open_plain(path, memory, device, threads)
    # A foreign graph may not allow CUDA graphs.
    return BoundSession(path, device=device, threads=threads, memory=memory, graphs=False)


def open_export(
    checkpoint: Path,
    variant: Variant,
    device: Device,
    threads: int,
    *,
    settings: ModelSettings,
    memory: GpuMemory,
) -> Session:
    """Opens the export of a checkpoint, which is made if it is not there; as `open_plain`.

    On a GPU, float32 is replaced by float16 where the settings say so; never on the CPU.
    """
    on_cpu = device is Device.CPU
    if not on_cpu and variant is Variant.FLOAT32 and settings.gpu_float16:
        variant = Variant.FLOAT16
    cache = settings.cache_dir.expanduser()
    try:
        path = exported_model(
            checkpoint,
            cache,
            variant=variant,
            packed=on_cpu,
            timeout_seconds=settings.load_timeout_seconds,
        )
    except (CheckpointError, OSError) as error:
        # Perhaps long after the model was loaded, in place of a device that failed.
        raise ModelLoadError(str(error)) from error
    if on_cpu:
        return open_plain(path, memory, device, threads)
    graphs = settings.cuda_graphs
    return BoundSession(path, device=device, threads=threads, memory=memory, graphs=graphs)
