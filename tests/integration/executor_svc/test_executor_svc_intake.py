"""From requests for tasks to submissions."""

import subprocess
import sys

import orjson

from stepwire.api.executor.v1 import executor_service_pb2 as pb
from stepwire.payload import json_to_value

# Reads a request as an executor does; prints the input as JSON and the digest.
READ = """
import asyncio, sys
from executor_svc.graphs.compile import GraphLimits
from executor_svc.graphs.cache import GraphCache
from executor_svc.tasks.intake import Intake
from stepwire.api.executor.v1 import executor_service_pb2 as pb

limits = GraphLimits(max_steps=10, max_bytes=1000, queues=None)
intake = Intake(None, GraphCache(), None, limits=limits, max_payload_bytes=1000)
request = pb.CreateTaskRequest.FromString(sys.stdin.buffer.read())
submission = asyncio.run(intake.read(request, tenant_id="t"))
print(submission.input.data.decode())
print(submission.digest.hex())
"""
PROCESSES = 3


def test_a_request_is_the_same_in_every_process():
    """The members of an object are read in an order that differs from process to process."""
    members = {f"member-{number}": number for number in range(20)}
    request = pb.CreateTaskRequest(request_id="r", labels={"a": "1", "b": "2"})
    request.graph.steps.add(name="a").transform.expression = "1"
    json_to_value(members, request.input.json)
    read = [
        subprocess.run(
            [sys.executable, "-c", READ],
            input=request.SerializeToString(),
            capture_output=True,
            check=True,
        ).stdout.split()
        for _ in range(PROCESSES)
    ]
    inputs, digests = zip(*read, strict=True)
    assert all(orjson.loads(each) == members for each in inputs)
    assert len(set(inputs)) > 1
    assert len(set(digests)) == 1
