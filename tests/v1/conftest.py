"""The document's three tests import the app as it was in 1.0: no login, nothing installed. Where
the caller says nothing else they get a trial installation of their own, while they are imported."""

import atexit
import os
import shutil
import tempfile

import pytest

given = {"DAAS_AUTH": "none"}
if "DAAS_DATA_DIR" not in os.environ:
    given["DAAS_DATA_DIR"] = tempfile.mkdtemp(prefix="daas-v1-")
    atexit.register(shutil.rmtree, given["DAAS_DATA_DIR"], ignore_errors=True)
added = {name: value for name, value in given.items() if name not in os.environ}
os.environ.update(added)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Other tests of the same run are not to see it."""
    for name in added:
        os.environ.pop(name, None)
