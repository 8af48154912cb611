"""`daas why`: the record in plain words."""

import time

import pytest

from daas.cli import narrative
from daas.sessions.states import Status

NOW_S = time.time()


def event(before, after, reason="step finished", actor="system", ago_s=10.0):
    words = {"before": before, "after": after, "reason": reason, "actor": actor}
    return {"at": NOW_S - ago_s, **words}


def tell(status, events=(), lang="en", look_s=None, **session):
    shown = {"id": "desktop-k3x9qa", "status": status, "desired": "running", **session}
    return narrative.tell(shown, events, lang, NOW_S, look_s)


@pytest.mark.parametrize("lang", ["en", "fr"])
@pytest.mark.parametrize("status", [s.value for s in Status])
def test_every_status_says_what_happens_next(status, lang):
    story = tell(status, lang=lang, failure="no room")

    assert story.next and all("{" not in line for line in story.next)


@pytest.mark.parametrize(
    "happened, said",
    [
        (event("", "requested", "requested", "ada"), "ada asked for it"),
        (event("booting", "personalizing"), "it answers by RDP"),
        (event("", "ready", "wants deleted", "ada"), "ada wants it deleted"),
        (event("ready", "deleting", "to be deleted"), "its removal began"),
        (event("ready", "deleting", "its time is over"), "its time was over"),
        (event("booting", "booting", "LXD said: busy"), "a try failed: LXD said: busy"),
        (event("booting", "failed", "It never booted."), "it failed: It never booted."),
        (event("", "ready", "something new", "ben"), "ben: something new"),
    ],
)
def test_an_event_reads_as_a_sentence(happened, said):
    (line,) = tell("ready", [happened]).happened

    assert said in line


def test_who_waits_in_line_learns_place_time_and_deadline():
    events = [event("", "requested", "requested", "ada", ago_s=0)]

    story = tell("requested", events, waiting_for="room for 512 MiB", position=3, eta_s=6)

    assert story.waits == "It waits for room for 512 MiB."
    assert "It is number 3 in line; about 6 s." in story.next
    fails_at = time.strftime("%H:%M:%S", time.localtime(NOW_S + 600))
    assert any(fails_at in line and "fails" in line for line in story.next)


def test_a_failed_one_says_until_when_its_machine_is_kept():
    ends_at = NOW_S + 3600

    story = tell("failed", failure="It never booted.", expires_at=ends_at)

    assert story.next[0] == "It failed: It never booted."
    assert time.strftime("%H:%M:%S", time.localtime(ends_at)) in story.next[1]
    assert "daas session delete desktop-k3x9qa" in story.next[1]


def test_a_ready_one_with_an_end_does_not_say_that_it_stays():
    story = tell("ready", expires_at=NOW_S + 60)

    assert len(story.next) == 1 and story.next[0].startswith("It ends by itself at")


def test_one_that_is_to_go_says_so_whatever_it_is_doing():
    (line,) = tell("booting", desired="deleted").next

    assert "to be deleted" in line


def test_a_worker_that_does_not_come_is_named():
    late = tell("booting", look_s=NOW_S - 60).next[-1]
    soon = tell("booting", look_s=NOW_S + 60).next[-1]

    assert "daas serve" in late and "daas serve" not in soon


@pytest.mark.parametrize(
    "environ, lang",
    [
        ({"LANG": "fr_FR.UTF-8"}, "fr"),
        ({"LANG": "fr_FR.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "de_DE"}, "en"),
        ({}, "en"),
    ],
)
def test_the_language_is_that_of_the_environment(environ, lang):
    assert narrative.language(environ) == lang
