"""The document's three tests import the app as it was in 1.0: no login, nothing installed. Where
the caller says nothing else they get a trial installation of their own."""

import atexit
import os
import shutil
import tempfile

if "DAAS_DATA_DIR" not in os.environ:
    folder = tempfile.mkdtemp(prefix="daas-v1-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["DAAS_DATA_DIR"] = folder
os.environ.setdefault("DAAS_AUTH", "none")
