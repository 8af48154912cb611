"""All the tables, imported in one place for the migrations."""

from daas import events, logs, tenants
from daas.access import tokens
from daas.db import Base
from daas.jobs import models as jobs
from daas.nodes import models as nodes
from daas.sessions import models as sessions
from daas.templates import models as templates

MODULES = (tokens, events, jobs, logs, nodes, sessions, templates, tenants)
METADATA = Base.metadata
