"""The descriptor set: the public protos as Envoy and reflection read them.

`descriptors.binpb` is built from `protos/` and committed. After a change of the
protos, `python -m gateway.descriptors` at the repository's root writes it anew; a test
compares it with the generated stubs.
"""

import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from google.protobuf import any_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.rpc import error_details_pb2, status_pb2

DESCRIPTORS = Path(__file__).with_name("descriptors.binpb")

# No proto of ours imports them, yet every error carries them: without these the
# transcoder could not write an error's details as JSON.
_ERROR_FILES = (any_pb2, status_pb2, error_details_pb2)


@cache
def load() -> FileDescriptorSet:
    """Reads the committed descriptor set, imports before what imports them."""
    return FileDescriptorSet.FromString(DESCRIPTORS.read_bytes())


def method_names(service: str) -> Sequence[str]:
    """Returns the methods of a service, in the order of its proto.

    Raises:
        KeyError: The descriptor set has no such service.
    """
    for file in load().file:
        for candidate in file.service:
            if f"{file.package}.{candidate.name}" == service:
                return tuple(method.name for method in candidate.method)
    raise KeyError(service)


def build() -> bytes:
    """Compiles `protos/` of the working directory, with all imports.

    Raises:
        subprocess.CalledProcessError: buf found a fault in the protos.
    """
    buf = Path(sys.executable).with_name("buf")
    done = subprocess.run(
        [buf, "build", "protos", "--as-file-descriptor-set", "--exclude-source-info", "-o", "-"],
        stdout=subprocess.PIPE,
        check=True,
    )
    descriptors = FileDescriptorSet.FromString(done.stdout)
    present = {file.name for file in descriptors.file}
    for module in _ERROR_FILES:
        if module.DESCRIPTOR.name not in present:
            descriptors.file.append(FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb))
    return descriptors.SerializeToString(deterministic=True)


if __name__ == "__main__":
    DESCRIPTORS.write_bytes(build())
