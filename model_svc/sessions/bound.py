"""Runs with buffers that stay where they are, as GPUs want them.

The inputs' sizes are rounded up to those of a bucket, and each bucket has its own buffers
on the device for them. A CUDA graph, which replays a run with one call, can be captured
once per bucket: it needs fixed sizes and addresses, and so buffers for the outputs, too.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import onnxruntime as ort

from model_svc.sessions.devices import Device
from model_svc.sessions.graphs import GATE, note_graphs
from model_svc.sessions.session import Session, run_options
from model_svc.tensors import DTYPES, Tensor

_GRAPH_ID: Final = "gpu_graph_id"
_NO_GRAPH: Final = "-1"
_MAX_BUCKETS: Final = 128

# How long a capture waits for what else uses the GPU: longer than runs take.
_PATIENCE_SECONDS: Final = 0.2

Shape = tuple[int, ...]


class _Bucket:
    """The buffers of one combination of sizes.

    Attributes:
        inputs: Those of the inputs, by name.
        outputs: Those of the outputs; none without a graph: outputs that are held between
            runs would take memory from all other buckets.
        options: Of its runs.
        capturing: Whether its next run captures a graph.
    """

    def __init__(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any], options: Any) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.options = options
        self.capturing = bool(outputs)


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
        if self._graphs:
            note_graphs(self._session)
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
        if not self._captures(key):
            with self._gate():
                return self._run_in(self._bucket(key, inputs, outputs), inputs, outputs)
        with GATE.capture(_PATIENCE_SECONDS) as alone:
            bucket = self._bucket(key, inputs, outputs) if alone else self._new_bucket(inputs)
            results = self._run_in(bucket, inputs, outputs)
            bucket.capturing = False
        return results

    def _captures(self, key: tuple[Any, ...]) -> bool:
        """Whether the next run of these sizes captures a graph."""
        known = self._buckets.get(key)
        full = len(self._buckets) >= self._max_buckets
        return self._graphs and (known.capturing if known else not full)

    def _run_in(
        self, bucket: _Bucket, inputs: Mapping[str, Tensor], outputs: Sequence[str]
    ) -> list[Tensor]:
        binding = self._session.io_binding()
        for name, array in inputs.items():
            bucket.inputs[name].update_inplace(np.ascontiguousarray(array))
            binding.bind_ortvalue_input(name, bucket.inputs[name])
        for name in outputs:
            if bucket.outputs:
                binding.bind_ortvalue_output(name, bucket.outputs[name])
            else:
                binding.bind_output(name, self._kind)
        with self._stoppable(bucket.options) as options:
            self._session.run_with_iobinding(binding, options)
        # A copy: the buffers are written again by the next run.
        return [np.array(result.numpy()) for result in binding.get_outputs()]

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
        # A replay fills no outputs but those whose places were known when it was captured.
        given = self._output_buffers(inputs, outputs) if self._graphs and not full else {}
        graph_id = str(len(self._buckets)) if given else _NO_GRAPH
        bucket = self._new_bucket(inputs, given, graph_id)
        if given or not self._graphs:
            self._buckets[key] = bucket
        return bucket

    def _new_bucket(
        self,
        inputs: Mapping[str, Tensor],
        outputs: Mapping[str, Any] = MappingProxyType({}),
        graph_id: str = _NO_GRAPH,
    ) -> _Bucket:
        options = run_options()
        options.add_run_config_entry(_GRAPH_ID, graph_id)
        buffers = {name: self._buffer(array.shape, array.dtype) for name, array in inputs.items()}
        return _Bucket(buffers, outputs, options)

    def _output_buffers(
        self, inputs: Mapping[str, Tensor], outputs: Sequence[str]
    ) -> dict[str, Any]:
        """The outputs' buffers; none unless the inputs' sizes tell all of theirs."""
        sizes = {
            wanted: size
            for spec in self.inputs
            for wanted, size in zip(spec.shape, inputs[spec.name].shape, strict=True)
            if isinstance(wanted, str)
        }
        specs = [spec for spec in self.outputs if spec.name in outputs]
        shapes = [
            tuple(size if isinstance(size, int) else sizes.get(size, -1) for size in spec.shape)
            for spec in specs
        ]
        if any(-1 in shape for shape in shapes):
            return {}
        return {
            spec.name: self._buffer(shape, DTYPES[spec.datatype])
            for spec, shape in zip(specs, shapes, strict=True)
        }

    def _buffer(self, shape: Shape, dtype: Any) -> Any:
        return ort.OrtValue.ortvalue_from_shape_and_type(shape, np.dtype(dtype).type, self._kind, 0)
