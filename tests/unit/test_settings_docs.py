"""Whoever adds a setting tells its users."""

from pathlib import Path

import pytest

from daas.config import Settings

ROOT = Path(__file__).parents[2]
NAMES = [f.alias or f"DAAS_{n.upper()}" for n, f in Settings.model_fields.items()]


@pytest.mark.parametrize("file", ["docs/reference/settings.md", ".env.example"])
def test_every_setting_is_documented(file):
    text = (ROOT / file).read_text()

    assert [name for name in NAMES if name not in text] == []
