import copy
import pickle
from datetime import timedelta

import pytest

from stepwire.errors import FieldFault, Reason, StepwireError, field_invalid


def test_a_reasons_value_is_its_name():
    assert all(reason.value == reason.name for reason in Reason)
    assert Reason("TASK_NOT_FOUND") is Reason.TASK_NOT_FOUND


def test_the_text_of_an_error_is_its_message():
    assert str(StepwireError(Reason.INTERNAL, "broken")) == "broken"


@pytest.mark.parametrize("remake", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_an_error_survives_copying_and_pickling(remake):
    error = StepwireError(
        Reason.OVERLOADED,
        "full",
        metadata={"limit": "x"},
        faults=[FieldFault("a", "b")],
        retry_after=timedelta(seconds=2),
    )
    again = remake(error)
    assert type(again) is StepwireError
    assert vars(again) == vars(error)
    assert str(again) == "full"


def test_changing_the_given_metadata_later_does_not_change_the_error():
    metadata = {"task_id": "1"}
    error = StepwireError(Reason.TASK_NOT_FOUND, "no task 1", metadata=metadata)
    metadata["task_id"] = "2"
    assert error.metadata == {"task_id": "1"}


def test_field_invalid_names_the_field_in_message_metadata_and_fault():
    error = field_invalid("graph.steps[2].name", "must not be empty")
    assert error.reason is Reason.FIELD_INVALID
    assert error.message == "graph.steps[2].name: must not be empty"
    assert error.metadata == {"field": "graph.steps[2].name"}
    assert error.faults == (FieldFault("graph.steps[2].name", "must not be empty"),)
