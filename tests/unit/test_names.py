"""The local user that an owner gets."""

import re

import pytest

from daas.sessions.names import LOCAL_USER, SYSTEM, is_system, local_user_of


@pytest.mark.parametrize(
    "owner,user",
    [
        ("ada", "ada"),
        ("Tom.D", "tom-d"),
        ("PROTO\\Tom", "tom"),
        ("tom@proto.lan", "tom"),
        ("PROTO\\tom@proto.lan", "tom"),
        ("jean-luc_2", "jean-luc_2"),
        ("42", "u-42"),
        ("root", "u-root"),
        ("Administrator", "administrator"),
        ("systemd-network", "u-systemd-network"),
        ("...", "user"),
        ("", "user"),
        ("élodie", "lodie"),
        ("a" * 64, "a" * 32),
    ],
)
def test_it_is_made_from_the_owners_name(owner: str, user: str) -> None:
    assert local_user_of(owner) == user


@pytest.mark.parametrize("owner", ["$(reboot)", "a:b", "\0", "-x-", *sorted(SYSTEM), "é" * 99])
def test_it_is_always_a_valid_name_and_never_the_systems(owner: str) -> None:
    user = local_user_of(owner)

    assert re.fullmatch(LOCAL_USER[1:-1], user)
    assert not is_system(user)
