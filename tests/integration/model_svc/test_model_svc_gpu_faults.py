"""What ONNX Runtime says of a GPU that is missing, full or failed, and what is made of it."""

import gc
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from model_svc.sessions import devices
from model_svc.sessions.devices import Device, load_cuda_libraries, why_no_cuda
from model_svc.sessions.errors import DeviceError, DeviceFullError, InputRefusedError
from model_svc.sessions.graphs import note_graphs
from model_svc.sessions.memory import NO_LIMIT, GpuMemory
from model_svc.sessions.session import Session, is_device_fault
from tests.integration.model_svc.graphs import value, write_model, write_scale

# Runs a model that needs more than its arena may have, and tells what ONNX Runtime says.
LIMITED = """
import sys
import numpy as np
import onnxruntime as ort

info = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
ort.create_and_register_allocator(info, ort.OrtArenaCfg({"max_mem": 4096}))
options = ort.SessionOptions()
options.add_session_config_entry("session.use_env_allocators", "1")
session = ort.InferenceSession(sys.argv[1], options)
try:
    session.run(None, {"x": np.ones((4096, 2), dtype=np.float32)})
except Exception as error:
    print(error)
"""

# As onnxruntime-gpu 1.31.1 says it.
FAILED = (
    "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:154 std::conditional_t<THRW> "
    "onnxruntime::CudaCall(ERRTYPE, const char*) [with ERRTYPE = cudaError; bool THRW = true] "
    "CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; hostname=vm ; "
    "file=/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc ; line=355 ; "
    "expr=cudaMemcpy(dst, src, count, cudaMemcpyHostToDevice); \n\n"
)


def test_what_cuda_says_is_told_in_short(tmp_path: Path) -> None:
    write_scale(tmp_path / "m", 2)
    session = Session(tmp_path / "m" / "model.onnx", device=Device.CPU, threads=1)
    session.device = Device.GPU
    told = session.judged(RuntimeError(FAILED))
    assert isinstance(told, DeviceError)
    assert str(told) == (
        "CUDA failure 700: an illegal memory access was encountered "
        "(cudaMemcpy(dst, src, count, cudaMemcpyHostToDevice))"
    )
    full = session.judged(RuntimeError(FAILED.replace("an illegal memory access", "out of memory")))
    assert isinstance(full, DeviceFullError)


class Graphs:
    """What stands for a session with graphs."""


def test_sessions_with_graphs_outlive_a_device_that_failed(tmp_path: Path) -> None:
    write_scale(tmp_path / "m", 2)
    session = Session(tmp_path / "m" / "model.onnx", device=Device.CPU, threads=1)
    session.device = Device.GPU
    for said, lives in (("CUDA failure 2: out of memory", False), (FAILED, True)):
        graphs = Graphs()
        note_graphs(graphs)
        known = weakref.ref(graphs)
        session.judged(RuntimeError(said))
        del graphs
        gc.collect()
        assert (known() is not None) is lives


def test_names_in_a_model_do_not_make_a_callers_fault_the_devices(tmp_path: Path) -> None:
    write_model(
        tmp_path / "m",
        helper.make_node("MatMul", ["a", "b"], ["c"], name="CUDA_on_GPU"),
        inputs=[value(name, TensorProto.FLOAT, [None, None]) for name in "ab"],
        outputs=[value("c", TensorProto.FLOAT, [None, None])],
    )
    session = Session(tmp_path / "m" / "model.onnx", device=Device.CPU, threads=1)
    session.device = Device.GPU
    inputs = {"a": np.ones((2, 3), np.float32), "b": np.ones((4, 3), np.float32)}
    with pytest.raises(InputRefusedError, match="CUDA_on_GPU"):
        session.run(inputs, ["c"])


def load_anew(monkeypatch: pytest.MonkeyPatch, driver: str) -> None:
    """Loads NVIDIA's libraries, one of which is missing, where there is this driver."""
    monkeypatch.setattr(devices, "_DRIVER", driver)
    monkeypatch.setattr(ort, "preload_dlls", lambda: sys.stdout.write("no libcublas.so.13"))
    devices._load_once.cache_clear()
    load_cuda_libraries()
    devices._load_once.cache_clear()


def test_what_nvidias_libraries_lack_is_logged(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    load_anew(monkeypatch, "libm.so.6")
    assert "no libcublas.so.13" in caplog.text
    assert capsys.readouterr().out == ""


def test_without_a_driver_nvidias_libraries_take_no_memory(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    load_anew(monkeypatch, "libnone.so.1")
    assert caplog.text == ""


def test_why_cuda_was_passed_over_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_DRIVER", "libnone.so.1")
    assert why_no_cuda().startswith("NVIDIA's driver is not there: libnone.so.1: cannot open")
    monkeypatch.setattr(devices, "_DRIVER", "libm.so.6")
    monkeypatch.setattr(devices, "_CUDA_LIBRARY", "libnone.so.2")
    assert why_no_cuda().startswith("libnone.so.2: cannot open")
    monkeypatch.setattr(devices, "_CUDA_LIBRARY", "libm.so.6")
    assert why_no_cuda() == "its log says why"


def test_a_gpu_that_is_full_says_what_a_model_may_have_of_it(tmp_path: Path) -> None:
    # A CPU's memory with a limit: what ONNX Runtime says is the same for every device.
    write_scale(tmp_path / "m", 2)
    script = tmp_path / "limited.py"
    script.write_text(LIMITED)
    told = subprocess.run(
        [sys.executable, script, tmp_path / "m" / "model.onnx"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "smaller than requested" in told
    error = RuntimeError(told)
    assert is_device_fault(error)
    said = GpuMemory(4096).device_error(error)
    assert str(said).startswith("the GPU's memory is used up, of which it may have 4096 bytes: ")
    assert str(NO_LIMIT.device_error(error)).startswith("the GPU's memory is used up: ")
    assert str(NO_LIMIT.device_error(RuntimeError("CUDA failure 700"))) == "CUDA failure 700"
