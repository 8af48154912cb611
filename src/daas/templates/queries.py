"""What readers want to know of templates."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session as Db

from daas.templates.models import Build, BuildStatus


def built_versions(db: Db) -> dict[str, int]:
    """The newest version of each template that desktops can be made of."""
    built = Build.status == BuildStatus.BUILT.value
    rows = select(Build.template, func.max(Build.version)).where(built).group_by(Build.template)
    return {name: version for name, version in db.execute(rows)}
