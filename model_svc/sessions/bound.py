"""Runs with buffers that stay where they are, as GPUs want them.

The inputs' sizes are rounded up to those of a bucket, and each bucket has its own buffers
on the device. So nothing is allocated per run, and a CUDA graph, which replays a run with
one call, can be captured once per bucket: it needs fixed sizes and addresses.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import onnxruntime as ort

from model_svc.sessions.devices import Device
from model_svc.sessions.session import Session, run_options
from model_svc.tensors import DTYPES, Tensor

_GRAPH_ID: Final = "gpu_graph_id"
_NO_GRAPH: Final = "-1"
_MAX_BUCKETS: Final = 128

Shape = tuple[int, ...]


class _Bucket:
    """The buffers of one combination of sizes."""

    def __init__(self, inputs: dict[str, Any], outputs: dict[str, Any], options: Any) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.options = options


class BoundSession(Session):
    """A session whose runs go through buffers on its device. Thread-safe, one run at a time."""

    def __init__(
        self, *args: Any, graphs: bool, max_buckets: int = _MAX_BUCKETS, **options: Any
    ) -> None:
        """Loads a model; see `Session`.

        Args:
            args: As for `Session`.
            graphs: Whether a CUDA graph is captured for each bucket.
            max_buckets: How many buckets keep their buffers; the one that was used longest
                ago goes first. With graphs, sizes beyond them run without.
            options: As for `Session`.
        """
        cuda = {"enable_cuda_graph": "1"} if graphs else {}
        super().__init__(*args, cuda_options=cuda, **options)
        self._kind = "cuda" if self.device is Device.GPU else "cpu"
        self._graphs = graphs and self.device is Device.GPU
        self._max_buckets = max_buckets
        self._buckets: OrderedDict[tuple[Any, ...], _Bucket] = OrderedDict()
        self._lock = threading.Lock()
        # ONNX Runtime keeps captured graphs by thread, and wants all runs of such a session
        # from one. It ends with the session.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="graphs") if graphs else None

    def run(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """See `Session`. All inputs' sizes make the bucket: pad them before.

        Raises:
            InputRefusedError: The inputs do not fit the model.
            DeviceError: The device failed.
        """
        if self._thread is None:
            return self._run_alone(inputs, outputs)
        return self._thread.submit(self._run_alone, inputs, outputs).result()

    def _run_alone(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        with self._lock:
            try:
                return self._run(inputs, outputs)
            except Exception as error:
                raise self.judged(error) from error

    def _run(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        key = (tuple((name, array.shape) for name, array in sorted(inputs.items())), *outputs)
        bucket = self._bucket(key, inputs, outputs)
        binding = self._session.io_binding()
        for name, array in inputs.items():
            bucket.inputs[name].update_inplace(np.ascontiguousarray(array))
            binding.bind_ortvalue_input(name, bucket.inputs[name])
        for name in outputs:
            if name in bucket.outputs:
                binding.bind_ortvalue_output(name, bucket.outputs[name])
            else:
                binding.bind_output(name, self._kind)
        with self._stoppable(bucket.options) as options:
            self._session.run_with_iobinding(binding, options)
        results = binding.get_outputs()
        if not self._graphs:
            # Their sizes are known now: the next run writes to the same places.
            bucket.outputs = dict(zip(outputs, results, strict=True))
        # A copy: the buffers are written again by the next run.
        return [np.array(result.numpy()) for result in results]

    def _bucket(
        self, key: tuple[Any, ...], inputs: Mapping[str, Tensor], outputs: Sequence[str]
    ) -> _Bucket:
        bucket = self._buckets.get(key)
        if bucket is not None:
            self._buckets.move_to_end(key)
            return bucket
        full = len(self._buckets) >= self._max_buckets
        if full and not self._graphs:
            self._buckets.popitem(last=False)
        options = run_options()
        captured = self._graphs and not full
        options.add_run_config_entry(_GRAPH_ID, str(len(self._buckets)) if captured else _NO_GRAPH)
        bucket = _Bucket(
            {name: self._buffer(array.shape, array.dtype) for name, array in inputs.items()},
            self._output_buffers(inputs, outputs) if captured else {},
            options,
        )
        if captured or not self._graphs:
            self._buckets[key] = bucket
        return bucket

    def _output_buffers(
        self, inputs: Mapping[str, Tensor], outputs: Sequence[str]
    ) -> dict[str, Any]:
        """The outputs' buffers, where the inputs' sizes tell theirs."""
        sizes = {
            wanted: size
            for spec in self.inputs
            for wanted, size in zip(spec.shape, inputs[spec.name].shape, strict=True)
            if isinstance(wanted, str)
        }
        specs = {spec.name: spec for spec in self.outputs}
        return {
            name: self._buffer(
                tuple(size if isinstance(size, int) else sizes[size] for size in specs[name].shape),
                DTYPES[specs[name].datatype],
            )
            for name in outputs
            if all(isinstance(size, int) or size in sizes for size in specs[name].shape)
        }

    def _buffer(self, shape: Shape, dtype: Any) -> Any:
        return ort.OrtValue.ortvalue_from_shape_and_type(shape, np.dtype(dtype).type, self._kind, 0)
