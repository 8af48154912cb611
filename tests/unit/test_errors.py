"""Every error says what it is."""

import pytest

from daas import errors
from daas.errors import DaasError

RAISED = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, DaasError) and kind is not DaasError
]


@pytest.mark.parametrize("kind", RAISED)
def test_each_error_has_a_status_and_a_code_of_its_own(kind):
    assert 400 <= kind.status < 600 and kind.code != "internal"
    assert [k.code for k in RAISED].count(kind.code) == 1


@pytest.mark.parametrize("kind", [k for k in RAISED if k.status == 503])
def test_what_passes_by_itself_says_when_to_come_again(kind):
    assert kind.retry_after_s and kind.retry_after_s > 0


def test_an_error_keeps_the_field_it_is_about():
    assert errors.BadRequest("size: no such size", "size").field == "size"


def test_the_output_of_a_command_is_not_in_its_message():
    """Catches: a password that a program printed, shown to whoever asked."""
    failed = errors.CommandFailed("lxc", 1, tail="token=hunter2")
    assert "hunter2" not in str(failed) and failed.tail == "token=hunter2"


def test_each_error_is_in_the_list_at_the_top_of_its_module():
    """Catches: a class that the table people read does not have."""
    names = {k for k, v in vars(errors).items() if isinstance(v, type)} - {"DaasError"}
    assert not [n for n in names if n not in (errors.__doc__ or "")]
