"""The home page: what runs here, in English or French."""

from flask import Blueprint, Response, render_template_string, request

from daas.api.core import VERSION, core
from daas.errors import NotReady
from daas.sessions import queries

bp = Blueprint("home", __name__)
COMING = ("requested", "provisioning", "booting", "personalizing", "assigning", "starting")
WORDS = {
    "en": {
        "lead": "Desktops on demand: a real Linux desktop of one's own, gone after use.",
        "ready": "ready",
        "coming": "on their way",
        "failed": "failed",
        "api": "Browse the API",
        "document": "OpenAPI document",
        "health": "Health",
        "away": "The database does not answer.",
    },
    "fr": {
        "lead": "Des bureaux à la demande : un vrai bureau Linux à soi, qui disparaît après usage.",
        "ready": "prêts",
        "coming": "en préparation",
        "failed": "en échec",
        "api": "Parcourir l'API",
        "document": "Document OpenAPI",
        "health": "État",
        "away": "La base de données ne répond pas.",
    },
}
PAGE = """<!doctype html>
<html lang="{{ lang }}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Orchestrateur DaaS</title>
<style>
:root { color-scheme: light dark; --ink: #16202c; --soft: #5b6b7c; --paper: #f5f7fa;
  --card: #fff; --line: #dfe5ec; --blue: #1f6feb; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8edf3; --soft: #97a6b6;
  --paper: #10161d; --card: #18212b; --line: #28343f; --blue: #58a6ff; } }
* { box-sizing: border-box }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 2rem;
  background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif }
main { width: min(42rem, 100%); background: var(--card); border: 1px solid var(--line);
  border-radius: 14px; padding: 2.5rem }
h1 { margin: 0 0 .3rem; font-size: 1.8rem; letter-spacing: -.01em }
p { margin: 0; color: var(--soft) }
dl { display: grid; grid-template-columns: repeat(3, 1fr); gap: 1rem; margin: 2rem 0 }
dl div { border: 1px solid var(--line); border-radius: 10px; padding: 1rem;
  display: flex; flex-direction: column-reverse }
dd { margin: 0; font-size: 2rem; font-weight: 600; font-variant-numeric: tabular-nums }
dt { color: var(--soft) }
nav { display: flex; flex-wrap: wrap; gap: 1.2rem }
a { color: var(--blue) }
footer { margin-top: 2rem; font-size: .85rem; color: var(--soft) }
</style>
</head>
<body>
<main>
<h1>Orchestrateur DaaS</h1>
<p>{{ words.lead }}</p>
{% if count is none %}<p role="alert">{{ words.away }}</p>{% else %}
<dl>
<div><dt>{{ words.ready }}</dt><dd>{{ count.ready }}</dd></div>
<div><dt>{{ words.coming }}</dt><dd>{{ count.coming }}</dd></div>
<div><dt>{{ words.failed }}</dt><dd>{{ count.failed }}</dd></div>
</dl>{% endif %}
<nav>
<a href="/openapi/swagger">{{ words.api }}</a>
<a href="/openapi/openapi.json">{{ words.document }}</a>
<a href="/health">{{ words.health }}</a>
</nav>
<footer>DaaS Orchestrator {{ version }}</footer>
</main>
</body>
</html>
"""


@bp.get("/")
def home() -> Response:
    lang = request.accept_languages.best_match(["en", "fr"]) or "en"
    page = render_template_string(
        PAGE, lang=lang, words=WORDS[lang], count=_count(), version=VERSION
    )
    headers = {"Content-Language": lang, "Vary": "Accept-Language", "Cache-Control": "no-cache"}
    return Response(page, headers=headers, content_type="text/html; charset=utf-8")


def _count() -> dict[str, int] | None:
    try:
        with core().database.reading() as db:
            by_status = queries.count_by_status(db)
    except NotReady:
        return None
    coming = sum(by_status.get(word, 0) for word in COMING)
    return {
        "ready": by_status.get("ready", 0),
        "coming": coming,
        "failed": by_status.get("failed", 0),
    }
