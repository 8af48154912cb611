"""Whose a machine of Proxmox is: one tag says it, which Proxmox lists for all machines at once.
A clone inherits its template's tags, so a machine that bears an image's mark is a clone of it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from daas.providers.base import Tag

PLAIN = "daas"  # on all that is ours, for people who look at the list
IMAGE = "image"
BUILD = "build"
ALPHABET = re.compile(r"[a-z0-9-]+")


@dataclass(frozen=True)
class Mark:
    tag: Tag
    created_at: int  # epoch seconds


def words(tag: Tag, created_at: float) -> list[str]:
    """Return the tags of a machine."""
    parts = (tag.instance, tag.session, tag.nonce)
    for part in parts:
        if not ALPHABET.fullmatch(part):
            raise ValueError(f"{part!r} cannot be part of a tag of Proxmox")
    return [PLAIN, "_".join([PLAIN, *parts, str(int(created_at))])]


def image_words(instance: str) -> list[str]:
    """Return the tags of an image of ours."""
    return [PLAIN, f"{PLAIN}_{instance}_{IMAGE}"]


def build_words(instance: str) -> list[str]:
    """Return the tags of a machine that becomes an image of ours."""
    return [PLAIN, f"{PLAIN}_{instance}_{BUILD}"]


def is_build_of(tags: str | None, instance: str) -> bool:
    return f"{PLAIN}_{instance}_{BUILD}" in split(tags)


def sentence(tag: Tag) -> str:
    """Return the description of a machine: the tag, for a person."""
    return (
        f"Desktop {tag.session} of the DaaS orchestrator {tag.instance} (nonce {tag.nonce}). "
        "It is made and removed by the orchestrator; do not change its tags."
    )


def split(tags: str | None) -> list[str]:
    """Return the single tags of what Proxmox shows: it separates by any of these."""
    return [one for one in re.split(r"[;, ]+", tags or "") if one]


def of(tags: str | None) -> Mark | None:
    """Return the mark that a machine bears; None where it bears none, or more than one."""
    found = [mark for mark in map(_parse, split(tags)) if mark]
    return found[0] if len(found) == 1 else None


def has_any(tags: str | None) -> bool:
    """Does somebody claim that machine?"""
    return any(map(_parse, split(tags)))


def is_image_of(tags: str | None, instance: str) -> bool:
    """Does it bear the mark of an image of ours, as our images and their clones do?"""
    return f"{PLAIN}_{instance}_{IMAGE}" in split(tags)


def instances_of_images(tags: Iterable[str]) -> set[str]:
    """Return whose image marks are among these tags."""
    parts = [one.split("_") for one in tags]
    return {p[1] for p in parts if len(p) == 3 and p[0] == PLAIN and p[2] == IMAGE}


def _parse(word: str) -> Mark | None:
    match word.split("_"):
        case [first, instance, session, nonce, created] if first == PLAIN and created.isdigit():
            return Mark(Tag(instance, session, nonce), int(created))
    return None
