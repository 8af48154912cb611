"""Structured logs: JSON lines for machines, colours on a terminal. What is bound with
`bind(session=…, request=…)` is on every line of that thread or task."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def setup(style: str = "auto", level: str = "info") -> None:
    """Everything that logs, ours or a library's, goes to stderr in one style from now on."""
    is_text = style == "text" or (style == "auto" and sys.stderr.isatty())
    last: list[Any] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
        if is_text
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=SHARED,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # one line a request is noise
    logging.getLogger("alembic").setLevel(logging.WARNING)


@contextmanager
def bind(**words: str) -> Iterator[None]:
    with structlog.contextvars.bound_contextvars(**words):
        yield
