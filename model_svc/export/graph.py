"""Writing an ONNX graph: nodes by call, weights straight to a file beside the model."""

from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET: Final = 20  # the first with Gelu, and one that ONNX Runtime 1.24 knows well
_IR_VERSION: Final = 10
# ONNX Runtime maps external weights from the file instead of reading them, if they begin
# on a page; small ones are not worth a page.
_PAGE_BYTES: Final = 4096
_INLINE_BYTES: Final = 4096


class GraphWriter:
    """Collects the nodes and constants of one graph.

    Large constants go to `weights_file` as they come, so that a model is never held in
    memory as a whole.
    """

    def __init__(self, weights_file: BinaryIO, location: str) -> None:
        """Starts an empty graph.

        Args:
            weights_file: Where large constants are written, from its current position on.
            location: Name of that file, relative to the model's.
        """
        self._file = weights_file
        self._location = location
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def node(self, operator: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Adds a node with one output; returns the output's name, `name` if given."""
        output = name or f"{operator}_{len(self._nodes)}"
        self._nodes.append(
            helper.make_node(operator, list(inputs), [output], name=output, **attributes)
        )
        return output

    def integers(self, *values: int) -> str:
        """Returns the name of an int64 constant of one dimension."""
        name = "int64_" + "_".join(str(value) for value in values)
        return self._constant(name, np.array(values, dtype=np.int64))

    def scalar(self, value: float) -> str:
        """Returns the name of a constant without dimensions: int64 for an int, else float32."""
        kind = np.int64 if isinstance(value, int) else np.float32
        return self._constant(f"scalar_{kind.__name__}_{value}", np.array(value, dtype=kind))

    def weight(self, name: str, array: npt.NDArray[np.float32]) -> str:
        """Adds a float32 weight; returns `name`."""
        return self._constant(name, array)

    def save(
        self,
        path: Path,
        *,
        inputs: list[onnx.ValueInfoProto],
        outputs: list[onnx.ValueInfoProto],
    ) -> None:
        """Checks the graph and writes the model file."""
        graph = helper.make_graph(
            self._nodes, path.stem, inputs, outputs, list(self._constants.values())
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=_IR_VERSION,
            producer_name="stepwire",
        )
        path.write_bytes(model.SerializeToString())
        onnx.checker.check_model(path, full_check=True)

    def _constant(self, name: str, array: npt.NDArray[np.generic]) -> str:
        if name not in self._constants:
            contiguous = np.ascontiguousarray(array).reshape(array.shape)
            inline = contiguous.nbytes <= _INLINE_BYTES
            self._constants[name] = (
                numpy_helper.from_array(contiguous, name)
                if inline
                else self._external(name, contiguous)
            )
        return name

    def _external(self, name: str, array: npt.NDArray[np.generic]) -> onnx.TensorProto:
        self._file.write(b"\0" * (-self._file.tell() % _PAGE_BYTES))
        offset = self._file.tell()
        self._file.write(array.data)
        tensor = TensorProto(
            name=name,
            dims=array.shape,
            data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
            data_location=TensorProto.EXTERNAL,
        )
        entries = {"location": self._location, "offset": str(offset), "length": str(array.nbytes)}
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)
        return tensor
