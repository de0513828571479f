"""A protoc plugin that writes all Python output in one run.

It hands the request to the generators of grpcio-tools (messages, stubs) and
mypy-protobuf (types), with three changes that neither offers:

* a proto outside `stepwire/` is generated as if it lay in `stepwire/api/`, so that
  everything generated is in one package and nothing needs its imports rewritten;
* the name under which mypy-protobuf declares an async stub exists at run time too;
* files that would hold no definitions (`_pb2_grpc.py` of a proto without a service)
  are left out.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.protobuf.compiler import plugin_pb2
from grpc_tools import protoc

GENERATED_ROOT = "stepwire/api/"
FOREIGN_ROOTS = ("google/",)


def home_of(path: str) -> str:
    """Return the path under which the generated code of the proto `path` lives."""
    if path.startswith((GENERATED_ROOT, *FOREIGN_ROOTS)):
        return path
    return GENERATED_ROOT + path


def rehome(request: plugin_pb2.CodeGeneratorRequest) -> None:
    """Rename the files of `request` to their homes, dependencies included."""
    request.file_to_generate[:] = [home_of(path) for path in request.file_to_generate]
    for file in request.proto_file:
        file.name = home_of(file.name)
        file.dependency[:] = [home_of(path) for path in file.dependency]


def run_protoc(request: plugin_pb2.CodeGeneratorRequest, out: Path) -> None:
    """Write messages and stubs with the generators built into grpcio-tools."""
    descriptors = out / "descriptors.binpb"
    descriptors.write_bytes(
        descriptor_pb2.FileDescriptorSet(file=request.proto_file).SerializeToString()
    )
    arguments = ["protoc", f"--descriptor_set_in={descriptors}"]
    arguments += [f"--python_out={out}", f"--grpc_python_out={out}"]
    if protoc.main([*arguments, *request.file_to_generate]) != 0:
        sys.exit("protoc failed")
    descriptors.unlink()


def async_stubs(file: descriptor_pb2.FileDescriptorProto) -> str:
    """Return the lines that name the async stubs of a file's services."""
    names = [service.name for service in file.service]
    return "".join(f"\n{name}AsyncStub = {name}Stub\n" for name in names)


def run_plugin(name: str, request: bytes) -> plugin_pb2.CodeGeneratorResponse:
    """Run the plugin `name` that is installed beside this interpreter."""
    executable = Path(sys.executable).with_name(name)
    # It names every file it writes on standard error, which would hide real errors.
    done = subprocess.run([executable], input=request, capture_output=True, check=False)
    if done.returncode != 0:
        sys.exit(done.stderr.decode())
    return plugin_pb2.CodeGeneratorResponse.FromString(done.stdout)


def main() -> None:
    """Answer the CodeGeneratorRequest on standard input."""
    request = plugin_pb2.CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    rehome(request)
    response = plugin_pb2.CodeGeneratorResponse(
        supported_features=plugin_pb2.CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
    )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        run_protoc(request, out)
        stubs = {
            Path(file.name).with_suffix("").as_posix() + "_pb2_grpc.py": async_stubs(file)
            for file in request.proto_file
        }
        for path in sorted(out.rglob("*.py")):
            name = path.relative_to(out).as_posix()
            response.file.add(name=name, content=path.read_text() + stubs.get(name, ""))
    request.parameter = "async_only"
    for plugin in ("protoc-gen-mypy", "protoc-gen-mypy_grpc"):
        typed = run_plugin(plugin, request.SerializeToString())
        if typed.error:
            sys.exit(typed.error)
        response.file.extend(typed.file)
    with_service = {
        Path(home).with_suffix("").as_posix()
        for home, file in zip([f.name for f in request.proto_file], request.proto_file, strict=True)
        if file.service
    }
    kept = [
        file
        for file in response.file
        if "_pb2_grpc.py" not in file.name or file.name.split("_pb2_grpc.py")[0] in with_service
    ]
    del response.file[:]
    response.file.extend(kept)
    sys.stdout.buffer.write(response.SerializeToString())


if __name__ == "__main__":
    main()
