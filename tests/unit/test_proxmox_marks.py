"""The tag on a machine of Proxmox: what we write is what we read, and nothing else is ours."""

import pytest

from daas.providers.base import Tag
from daas.providers.proxmox import marks

TAG = Tag("abcdefghij234567", "desktop-abc234", "0123456789abcdef")


def test_a_machines_tags_say_whose_it_is_and_since_when() -> None:
    tags = ";".join(marks.words(TAG, 1_700_000_000.9))

    assert marks.of(tags) == marks.Mark(TAG, 1_700_000_000)
    assert tags == ("daas;daas_abcdefghij234567_desktop-abc234_0123456789abcdef_1700000000")


@pytest.mark.parametrize("separator", [";", ",", " ", "; "])
def test_tags_are_read_however_proxmox_separates_them(separator: str) -> None:
    tags = separator.join(["production", *marks.words(TAG, 5)])

    assert marks.of(tags) == marks.Mark(TAG, 5)


@pytest.mark.parametrize(
    "tags",
    [None, "", " ", "daas", "daas_a_b_c", "daas_a_b_c_later", "xdaas_a_b_c_5", "daas_a_b_c_5_6"],
)
def test_anything_else_is_no_mark(tags: str | None) -> None:
    assert marks.of(tags) is None and not marks.has_any(tags)


def test_a_machine_with_two_marks_is_nobodys() -> None:
    tags = ";".join([*marks.words(TAG, 5), *marks.words(Tag("other", "desktop-b", "c"), 5)])

    assert marks.of(tags) is None
    assert marks.has_any(tags)


def test_an_images_mark_is_none_of_a_machine() -> None:
    tags = ";".join(marks.image_words("here"))

    assert marks.is_image_of(tags, "here") and not marks.is_image_of(tags, "there")
    assert not marks.has_any(tags)


@pytest.mark.parametrize("bad", ["a_b", "A", "", "a;b", "a b"])
def test_what_could_be_read_as_another_tag_is_not_written(bad: str) -> None:
    with pytest.raises(ValueError, match="tag of Proxmox"):
        marks.words(Tag("here", "desktop-a", bad), 5)
