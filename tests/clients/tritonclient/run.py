"""A stock tritonclient against the model service: prints what it saw as one JSON object.

    python run.py HOST:PORT

In an environment of its own: its protos have the same names as ours, so that one process
cannot have both.
"""

import json
import queue
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as by_grpc
import tritonclient.http as by_http

Seen = dict[str, Any]
X = np.array([[1, 2.5]], dtype=np.float32)
SCALE = "scale"


def refusal(call: Any) -> str:
    """Returns what a call is refused with."""
    try:
        call()
    except Exception as error:  # noqa: BLE001  (whatever the client makes of it)
        return str(error)
    return ""


def common(client: Any, library: Any) -> Seen:
    """What both clients can do, by the same names."""
    tensor = library.InferInput("x", list(X.shape), "FP32")
    tensor.set_data_from_numpy(X)
    result = client.infer(
        SCALE,
        [tensor],
        model_version="1",
        request_id="call-1",
        outputs=[library.InferRequestedOutput("y")],
        priority=1,
        timeout=1_000_000,
    )
    words = []
    for name, texts in (("a", ["x", "é"]), ("b", ["", "z"])):
        words.append(library.InferInput(name, [2], "BYTES"))
        words[-1].set_data_from_numpy(np.array(texts, dtype=object))
    halves = []
    for name, half in (("a", np.array([[1, 2]])), ("b", np.array([[1], [2]]))):
        halves.append(library.InferInput(name, list(half.shape), "FP16"))
        halves[-1].set_data_from_numpy(half.astype(np.float16))
    joined = client.infer("join", words).as_numpy("c")
    seen = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready(SCALE),
        "broken_ready": client.is_model_ready("broken"),
        "scaled": result.as_numpy("y").tolist(),
        "joined": [text.decode() for text in joined],
        "product": client.infer("product", halves).as_numpy("c").tolist(),
        "unknown": refusal(lambda: client.infer("gone", [tensor])),
        "broken_load": refusal(lambda: client.load_model("broken")),
    }
    client.unload_model("parts")
    seen["unloaded_ready"] = client.is_model_ready("parts")
    client.load_model("parts")
    seen["loaded_ready"] = client.is_model_ready("parts")
    return seen


def grpc(target: str) -> Seen:
    """The gRPC client, with its stream."""
    with by_grpc.InferenceServerClient(target) as client:
        seen = common(client, by_grpc)
        metadata = client.get_model_metadata(SCALE, as_json=True)
        config = client.get_model_config(SCALE, as_json=True)["config"]
        statistics = client.get_inference_statistics(SCALE, "1", as_json=True)
        index = client.get_model_repository_index(as_json=True)
        answers: queue.Queue[Any] = queue.Queue()
        client.start_stream(lambda result, error: answers.put((result, error)))
        tensor = by_grpc.InferInput("x", list(X.shape), "FP32")
        tensor.set_data_from_numpy(X)
        for number in range(5):
            name = "gone" if number == 2 else SCALE
            client.async_stream_infer(name, [tensor], model_version="1", request_id=str(number))
        streamed = [answers.get(timeout=20) for _ in range(5)]
        client.stop_stream()
    return seen | {
        "server": client_name(target),
        "versions": metadata["versions"],
        "max_batch_size": config["max_batch_size"],
        "successes": int(statistics["model_stats"][0]["inference_stats"]["success"]["count"]),
        "states": {model["name"]: model["state"] for model in index["models"]},
        "streamed": [
            str(error) if error else result.as_numpy("y").tolist() for result, error in streamed
        ],
    }


def client_name(target: str) -> str:
    """The server's name, as a client of its own asks for it."""
    with by_grpc.InferenceServerClient(target) as client:
        return str(client.get_server_metadata().name)


def http(target: str) -> Seen:
    """The HTTP client."""
    with by_http.InferenceServerClient(target) as client:
        seen = common(client, by_http)
        tensor = by_http.InferInput("x", list(X.shape), "FP32")
        tensor.set_data_from_numpy(X, binary_data=False)
        wanted = [by_http.InferRequestedOutput("y", binary_data=False)]
        result = client.infer(SCALE, [tensor], model_version="1", outputs=wanted)
        return seen | {
            "server": client.get_server_metadata()["name"],
            "versions": client.get_model_metadata(SCALE)["versions"],
            "max_batch_size": client.get_model_config(SCALE)["max_batch_size"],
            "successes": client.get_inference_statistics(SCALE, "1")["model_stats"][0][
                "inference_stats"
            ]["success"]["count"],
            "states": {
                model["name"]: model["state"] for model in client.get_model_repository_index()
            },
            "as_json": result.as_numpy("y").tolist(),
        }


if __name__ == "__main__":
    json.dump({"grpc": grpc(sys.argv[1]), "http": http(sys.argv[1])}, sys.stdout)
