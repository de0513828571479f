import math

import pytest

from model_svc.generation.codec import decode_generate
from model_svc.generation.records import ChatMessage, ChatRole, GenerateCall, Sampling
from stepwire.api.model.v1 import generate_pb2 as pb
from stepwire.errors import Reason, StepwireError

HI = pb.ChatMessage(role=pb.CHAT_ROLE_USER, text="hi")


def test_a_prompt_is_all_that_is_needed() -> None:
    assert decode_generate(pb.GenerateRequest(prompt="hi")) == GenerateCall(
        prompt="hi", messages=[], max_tokens=256, stop=[]
    )


def test_what_is_given_is_passed_on() -> None:
    request = pb.GenerateRequest(
        messages=[HI],
        max_tokens=7,
        sampling=pb.Sampling(temperature=0, top_p=1, top_k=5, repetition_penalty=1.5, seed=0),
        stop=["\n"],
        priority=3,
    )
    assert decode_generate(request) == GenerateCall(
        messages=[ChatMessage(ChatRole.USER, "hi")],
        max_tokens=7,
        sampling=Sampling(0.0, 1.0, 5, 1.5, 0),
        stop=["\n"],
        priority=3,
    )


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "prompt"),
        ({"prompt": "hi", "messages": [HI]}, "prompt"),
        ({"prompt": "x" * 100_001}, "prompt"),
        ({"prompt": "to be \0 continued"}, "prompt"),
        ({"messages": [HI] * 257}, "messages"),
        (
            {"messages": [HI, pb.ChatMessage(role=pb.CHAT_ROLE_USER, text="\0")]},
            "messages[1].text",
        ),
        ({"messages": [pb.ChatMessage(role=pb.CHAT_ROLE_USER, text="x" * 50_001)] * 2}, "messages"),
        ({"messages": [HI, pb.ChatMessage(text="hi")]}, "messages[1].role"),
        ({"prompt": "hi", "max_tokens": -1}, "max_tokens"),
        ({"prompt": "hi", "priority": -1}, "priority"),
        ({"prompt": "hi", "stop": ["x"] * 9}, "stop"),
        ({"prompt": "hi", "stop": ["x", ""]}, "stop[1]"),
        ({"prompt": "hi", "stop": ["x" * 101]}, "stop[0]"),
        ({"prompt": "hi", "sampling": pb.Sampling(temperature=2.1)}, "sampling.temperature"),
        ({"prompt": "hi", "sampling": pb.Sampling(temperature=math.nan)}, "sampling.temperature"),
        ({"prompt": "hi", "sampling": pb.Sampling(top_p=0)}, "sampling.top_p"),
        ({"prompt": "hi", "sampling": pb.Sampling(top_p=1.1)}, "sampling.top_p"),
        ({"prompt": "hi", "sampling": pb.Sampling(top_k=1_001)}, "sampling.top_k"),
        ({"prompt": "hi", "sampling": pb.Sampling(top_k=-1)}, "sampling.top_k"),
        (
            {"prompt": "hi", "sampling": pb.Sampling(repetition_penalty=math.inf)},
            "sampling.repetition_penalty",
        ),
        ({"prompt": "hi", "sampling": pb.Sampling(seed=-1)}, "sampling.seed"),
    ],
)
def test_what_is_outside_the_limits_is_named(fields: dict[str, object], field: str) -> None:
    with pytest.raises(StepwireError) as raised:
        decode_generate(pb.GenerateRequest(**fields))  # type: ignore[arg-type]
    assert raised.value.reason is Reason.FIELD_INVALID
    assert raised.value.metadata == {"field": field}
