"""A session's record in plain words, English and French. Pure."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from daas.sessions.states import DEADLINE_S, Status

Language = Literal["en", "fr"]
Json = Mapping[str, Any]

DONE = {  # (status, next status): what the step between them made true
    ("requested", "provisioning"): ("room was found for it", "une place lui a été trouvée"),
    ("provisioning", "booting"): ("its machine was made", "sa machine a été créée"),
    ("booting", "personalizing"): ("it answers by RDP", "il répond en RDP"),
    ("personalizing", "assigning"): ("it was made personal", "il a été personnalisé"),
    ("assigning", "ready"): ("it was handed over: ready", "il a été remis : il est prêt"),
    ("unreachable", "ready"): ("it is reached again", "il est de nouveau joignable"),
    ("stopping", "stopped"): ("it was stopped", "il a été arrêté"),
    ("starting", "booting"): ("it was started again", "il a été redémarré"),
    ("deleting", "deleted"): ("nothing is left of it", "il n'en reste rien"),
}
BEGAN = {
    "unreachable": ("its node does not answer any more", "son nœud ne répond plus"),
    "deleting": ("its removal began", "sa suppression a commencé"),
    "stopping": ("its stop began", "son arrêt a commencé"),
    "starting": ("its start began", "son démarrage a commencé"),
    "assigning": ("it was claimed from its pool", "il a été pris dans sa réserve"),
}
WANTS = {
    "wants deleted": ("{actor} wants it deleted", "{actor} veut le supprimer"),
    "wants stopped": ("{actor} wants it stopped", "{actor} veut l'arrêter"),
    "wants running": ("{actor} wants it running", "{actor} veut le démarrer"),
    "extended": ("{actor} let it live longer", "{actor} a prolongé sa durée"),
    "read its one-time password": (
        "{actor} read its one-time password",
        "{actor} a lu son mot de passe à usage unique",
    ),
    "its machine stopped by itself": (
        "its machine stopped by itself",
        "sa machine s'est arrêtée d'elle-même",
    ),
}
WORDS = {
    "requested": ("{actor} asked for it", "{actor} l'a demandé"),
    "expired": ("its time was over; its removal began", "son temps était écoulé ; suppression"),
    "failed": ("it failed: {reason}", "il a échoué : {reason}"),
    "retry": ("a try failed: {reason}", "un essai a échoué : {reason}"),
    "other": ("{actor}: {reason}", "{actor} : {reason}"),
    "waits": ("It waits for {what}.", "Il attend : {what}."),
    "line": (
        "It is number {n} in line; about {eta} s.",
        "Il est numéro {n} dans la file ; environ {eta} s.",
    ),
    "soon": ("It should be ready in about {eta} s.", "Il devrait être prêt dans {eta} s environ."),
    "deadline": (
        "If that is not done by {at}, it fails (time in which the hypervisor does not answer "
        "is not counted).",
        "Si ce n'est pas fait à {at}, il échoue (le temps pendant lequel l'hyperviseur ne répond "
        "pas ne compte pas).",
    ),
    "going": (
        "It is to be deleted: its removal begins as soon as the step in hand leaves off.",
        "Il doit être supprimé : cela commence dès que l'étape en cours s'interrompt.",
    ),
    "ends": ("It ends by itself at {at}.", "Il se termine de lui-même à {at}."),
    "kept": (
        "Its machine is kept for a look until {at}, then removed. Sooner: daas session delete {id}",
        "Sa machine est gardée pour examen jusqu'à {at}, puis supprimée. Plus tôt : "
        "daas session delete {id}",
    ),
    "look": ("The worker looks at it next at {at}.", "Le worker le regardera à {at}."),
    "late": (
        "The worker should have looked at it at {at}: is `daas serve` running?",
        "Le worker aurait dû le regarder à {at} : `daas serve` tourne-t-il ?",
    ),
}
NEXT = {
    "requested": (
        "It gets room on a node, then its machine is made.",
        "Il reçoit une place sur un nœud, puis sa machine est créée.",
    ),
    "provisioning": (
        "Its machine is being made; then it starts.",
        "Sa machine est en cours de création ; ensuite elle démarre.",
    ),
    "booting": (
        "It is starting; once it answers by RDP it is nearly ready.",
        "Il démarre ; dès qu'il répond en RDP il est presque prêt.",
    ),
    "personalizing": (
        "It is being made personal; then it is handed over.",
        "Il est en cours de personnalisation ; ensuite il est remis.",
    ),
    "assigning": ("It is being handed over; then it is ready.", "Il est remis ; puis prêt."),
    "ready": (
        "Nothing: it stays until somebody deletes it.",
        "Rien : il reste jusqu'à ce que quelqu'un le supprime.",
    ),
    "unreachable": (
        "Once its node answers again it is ready as before.",
        "Dès que son nœud répond de nouveau, il est prêt comme avant.",
    ),
    "stopping": ("It is being stopped; its disk is kept.", "Il s'arrête ; son disque est gardé."),
    "stopped": (
        "Nothing: its disk is kept until somebody starts or deletes it.",
        "Rien : son disque est gardé jusqu'à ce que quelqu'un le démarre ou le supprime.",
    ),
    "starting": ("It is being started again.", "Il redémarre."),
    "deleting": (
        "Its machine is being removed. That is tried again, at the latest every 5 minutes, "
        "until nothing is left.",
        "Sa machine est en cours de suppression. C'est retenté, au plus tard toutes les "
        "5 minutes, jusqu'à ce qu'il n'en reste rien.",
    ),
    "deleted": ("Nothing: nothing is left of it.", "Rien : il n'en reste rien."),
    "failed": ("It failed: {failure}", "Il a échoué : {failure}"),
}
COMING = ("requested", "provisioning", "booting", "personalizing", "assigning")


@dataclass(frozen=True)
class Story:
    happened: list[str]  # a line an event, with its time
    waits: str | None
    next: list[str]


def language(environ: Mapping[str, str]) -> Language:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := environ.get(name):
            return "fr" if value.startswith("fr") else "en"
    return "en"


def tell(
    session: Json,
    events: Sequence[Json],
    lang: Language,
    now_s: float,
    look_s: float | None = None,
) -> Story:
    """The story of a session as the API shows it. `at` of an event, and `look_s` (when the
    worker looks at it next, where that is known), are epoch seconds."""
    say = _Speaker(lang)
    happened = [f"{_clock(e['at'])}  {_event(say, e)}" for e in events]
    waits = session.get("waiting_for")
    return Story(
        happened,
        say("waits", what=waits) if waits else None,
        list(_next(say, session, events, now_s, look_s)),
    )


class _Speaker:
    def __init__(self, lang: Language):
        self._index = 0 if lang == "en" else 1

    def __call__(self, word: str, **values: Any) -> str:
        return self.of(WORDS[word], **values)

    def of(self, pair: tuple[str, str], **values: Any) -> str:
        return pair[self._index].format(**values)


def _event(say: _Speaker, e: Json) -> str:
    before, after, reason = e["before"], e["after"], e["reason"]
    known = {"actor": e["actor"], "reason": reason}
    if before == "" and reason == "requested":
        return say("requested", **known)
    if reason in WANTS:
        return say.of(WANTS[reason], **known)
    if reason == "step finished" and (before, after) in DONE:
        return say.of(DONE[before, after])
    if after == "failed":
        return say("failed", **known)
    if reason == "its time is over":
        return say("expired")
    if before == after:
        return say("retry", **known)
    return say.of(BEGAN[after]) if after in BEGAN else say("other", **known)


def _next(
    say: _Speaker, session: Json, events: Sequence[Json], now_s: float, look_s: float | None
) -> list[str]:
    status = session["status"]
    if session.get("desired") == "deleted" and status not in ("deleting", "deleted"):
        return [say("going"), *_look(say, now_s, look_s)]
    found = _end(say, session)
    if status in COMING and (eta := session.get("eta_s")) is not None:
        place = session.get("position")
        found.append(say("line", n=place, eta=eta) if place else say("soon", eta=eta))
    since = [e["at"] for e in events if e["before"] != e["after"] and e["after"] == status]
    if status in DEADLINE_S and since:
        found.append(say("deadline", at=_clock(since[-1] + DEADLINE_S[Status(status)])))
    return [*found, *_look(say, now_s, look_s)]


def _end(say: _Speaker, session: Json) -> list[str]:
    """What comes of the status itself, and when it ends by itself."""
    status, ends_at = session["status"], session.get("expires_at")
    comes = say.of(NEXT[status], failure=session.get("failure"))
    if not ends_at or status in ("deleting", "deleted"):
        return [comes]
    if status == "failed":
        return [comes, say("kept", at=_clock(ends_at), id=session["id"])]
    ends = say("ends", at=_clock(ends_at))
    return [ends] if status == "ready" else [comes, ends]


def _look(say: _Speaker, now_s: float, look_s: float | None) -> list[str]:
    if look_s is None:
        return []
    return [say("late" if look_s < now_s - 5 else "look", at=_clock(look_s))]


def _clock(at_s: float) -> str:
    is_today = time.strftime("%x", time.localtime(at_s)) == time.strftime("%x")
    return time.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M:%S", time.localtime(at_s))
