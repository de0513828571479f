"""The Open Inference Protocol over HTTP, through a real Envoy."""

import json
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from gateway.testing import running_envoy
from tests.integration.model_svc.graphs import write_encoder, write_repository
from tests.integration.model_svc.model_service import running_service

SCALE = "/v2/models/scale"
X = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2.5]}


@pytest_asyncio.fixture(scope="module")
async def http(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx2.AsyncClient]:
    """Give a client of a gateway before a model service."""
    folder = write_repository(tmp_path_factory.mktemp("repository"))
    write_encoder(folder / "tiny" / "1")
    (folder / "broken" / "1").mkdir(parents=True)
    (folder / "broken" / "1" / "model.onnx").write_bytes(b"not a model")
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(
            running_service(repository_dir=folder, default_model="tiny")
        )
        envoy = await stack.enter_async_context(
            running_envoy(tmp_path_factory.mktemp("envoy"), model_target=service.address)
        )
        yield await stack.enter_async_context(
            httpx2.AsyncClient(base_url=f"http://{envoy.target}", trust_env=False, timeout=30)
        )


async def get(http: httpx2.AsyncClient, path: str) -> Any:
    answer = await http.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


async def post(http: httpx2.AsyncClient, path: str, body: Any) -> Any:
    answer = await http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_health_and_metadata(http: httpx2.AsyncClient) -> None:
    assert await get(http, "/v2/health/live") == {"live": True}
    assert await get(http, "/v2/health/ready") == {"ready": True}
    server = await get(http, "/v2")
    assert server["name"] == "stepwire-model"
    assert "binary_tensor_data" in server["extensions"]
    assert await get(http, SCALE) == {
        "name": "scale",
        "versions": ["1", "9", "10"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
    }
    assert await get(http, f"{SCALE}/versions/9") == await get(http, SCALE)
    assert await get(http, f"{SCALE}/ready") == {"name": "scale", "ready": True}
    assert await get(http, f"{SCALE}/versions/1/ready") == {"name": "scale", "ready": True}


async def test_configuration_statistics_and_index(http: httpx2.AsyncClient) -> None:
    config = await get(http, f"{SCALE}/versions/1/config")
    assert config["max_batch_size"] == 32
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [2]}]
    await post(http, f"{SCALE}/versions/9/infer", {"inputs": [X]})
    (stats,) = (await get(http, f"{SCALE}/versions/9/stats"))["model_stats"]
    assert stats["inference_count"] == 1
    assert stats["inference_stats"]["success"]["count"] == 1
    assert len((await get(http, f"{SCALE}/stats"))["model_stats"]) == 3
    assert len((await get(http, "/v2/models/stats"))["model_stats"]) > 3
    index = {(m["name"], m["version"]): m for m in await post(http, "/v2/repository/index", {})}
    assert index["scale", "9"] == {"name": "scale", "version": "9", "state": "READY", "reason": ""}
    assert index["broken", "1"]["state"] == "UNAVAILABLE"
    ready = await post(http, "/v2/repository/index", {"ready": True})
    assert "broken" not in {model["name"] for model in ready}
    assert (await http.post("/v2/repository/index")).status_code == 200


async def test_tensors_are_arrays(http: httpx2.AsyncClient) -> None:
    body = {"id": "call-1", "inputs": [X | {"data": [[1, 2.5]]}]}
    assert await post(http, f"{SCALE}/versions/1/infer", body) == {
        "model_name": "scale",
        "model_version": "1",
        "id": "call-1",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [2, 5]}],
    }
    words = [
        {"name": name, "shape": [2], "datatype": "BYTES", "data": data}
        for name, data in (("a", ["x", "é"]), ("b", ["", "z"]))
    ]
    joined = await post(http, "/v2/models/join/infer", {"inputs": words})
    assert joined["outputs"][0]["data"] == ["x", "éz"]
    halves = [
        {"name": "a", "shape": [1, 2], "datatype": "FP16", "data": [1, 2]},
        {"name": "b", "shape": [2, 1], "datatype": "FP16", "data": [[1], [2]]},
    ]
    product = await post(http, "/v2/models/product/infer", {"inputs": halves})
    assert product["outputs"][0]["data"] == [5]


async def test_numbers_that_json_has_not_are_words(http: httpx2.AsyncClient) -> None:
    odd = X | {"shape": [2, 2], "data": ["NaN", "Infinity", "-Infinity", 1]}
    scaled = await post(http, f"{SCALE}/versions/1/infer", {"inputs": [odd]})
    assert scaled["outputs"][0]["data"] == ["NaN", "Infinity", "-Infinity", 2]


async def test_the_response_tells_where_the_time_went(http: httpx2.AsyncClient) -> None:
    body = {"inputs": [X], "parameters": {"stepwire_timings": True, "priority": 1}}
    parameters = (await post(http, f"{SCALE}/infer", body))["parameters"]
    assert parameters["stepwire_batch_items"] == 1
    assert parameters["stepwire_compute_us"] > 0
    assert parameters["stepwire_cached"] is False


async def test_tensors_are_bytes_behind_the_json(http: httpx2.AsyncClient) -> None:
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32"}
    head = json.dumps(
        {
            "inputs": [tensor | {"parameters": {"binary_data_size": 8}}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    answer = await http.post(
        f"{SCALE}/versions/1/infer",
        content=head + struct.pack("<2f", 1, 2.5),
        headers={"Inference-Header-Content-Length": str(len(head))},
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/octet-stream"
    end = int(answer.headers["inference-header-content-length"])
    output = json.loads(answer.content[:end])["outputs"][0]
    assert output["parameters"] == {"binary_data_size": 8}
    assert struct.unpack("<2f", answer.content[end:]) == (2, 5)


async def test_models_are_loaded_and_unloaded(http: httpx2.AsyncClient) -> None:
    unloaded = await http.post("/v2/repository/models/parts/unload")
    assert (unloaded.status_code, unloaded.json()) == (200, {})
    answer = await http.get("/v2/models/parts/ready")
    assert answer.status_code == 400
    dependents = {"parameters": {"unload_dependents": False}}
    assert await post(http, "/v2/repository/models/parts/unload", dependents) == {}
    assert await post(http, "/v2/repository/models/parts/load", {}) == {}
    assert await get(http, "/v2/models/parts/ready") == {"name": "parts", "ready": True}


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("gone/infer", {"inputs": [X]}, 404, "no model 'gone'"),
        ("scale/versions/2/infer", {"inputs": [X]}, 404, "has no version '2'"),
        ("broken/infer", {"inputs": [X]}, 400, "UNAVAILABLE"),
        ("scale/infer", {"inputs": [X | {"data": [1, "2"]}]}, 400, "data must be numbers"),
        ("scale/infer", {"inputs": [X | {"data": [1]}]}, 400, "must be 8"),
        ("scale/infer", {"inputs": [X | {"datatype": "FP8"}]}, 400, "a datatype that exists"),
        ("scale/infer", {"inputs": [X | {"shape": ["1"]}]}, 400, "inputs[0].shape"),
        ("scale/infer", {"input": [X]}, 400, "body.input"),
        ("scale/infer", [], 400, "must be a JSON object"),
        ("scale/infer", {"inputs": [X], "parameters": {"timeout": "1"}}, 400, "timeout"),
    ],
)
async def test_what_does_not_fit_is_refused(
    http: httpx2.AsyncClient, path: str, body: Any, status: int, says: str
) -> None:
    answer = await http.post(f"/v2/models/{path}", json=body)
    assert answer.status_code == status
    error = answer.json()
    assert says in error["error"]
    # What the gateway says of every error is there, too.
    assert error["message"] == error["error"]
    assert error["details"][0]["domain"] == "stepwire"


async def test_texts_may_have_no_tokens(http: httpx2.AsyncClient) -> None:
    """Nothing stands around the texts of this tokenizer."""
    for texts in ([""], ["", ""], ["", "red", " "]):
        given = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}
        answer = await post(http, "/v2/models/tiny/infer", {"inputs": [given]})
        assert answer["outputs"][0]["shape"] == [len(texts), 4]


async def test_the_text_of_an_error_may_have_any_characters(http: httpx2.AsyncClient) -> None:
    odd = 'a "quoted" \\ name, and é'
    answer = await http.post(f"{SCALE}/infer", json={"inputs": [X], odd: 1})
    error = answer.json()
    assert odd in error["error"]
    assert error["message"] == error["error"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": "\ud800", "inputs": [X]},
        {"inputs": [X | {"name": "\udc00"}]},
        {"inputs": [X], "outputs": [{"name": "\udfff"}]},
        {"inputs": [X], "parameters": {"\ud800": "x"}},
    ],
)
async def test_half_characters_are_refused(http: httpx2.AsyncClient, wrong: Any) -> None:
    answer = await http.post(f"{SCALE}/infer", content=json.dumps(wrong))
    assert answer.status_code == 400
    assert "Unicode" in answer.json()["error"]
    whole = {"id": "\U0001f600", "inputs": [X]}
    answer = await http.post(f"{SCALE}/infer", content=json.dumps(whole))
    assert answer.json()["id"] == whole["id"]


@pytest.mark.parametrize(
    ("length", "content"), [("x", b"{}"), ("9", b"{}"), ("1", b"{}"), ("9" * 5_000, b"{}")]
)
async def test_a_body_that_ends_too_early_is_refused(
    http: httpx2.AsyncClient, length: str, content: bytes
) -> None:
    headers = {"Inference-Header-Content-Length": length}
    answer = await http.post(f"{SCALE}/infer", content=content, headers=headers)
    assert answer.status_code == 400
