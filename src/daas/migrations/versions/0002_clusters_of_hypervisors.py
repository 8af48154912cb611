"""nodes say what others take of them, machines have numbers, clones wait their turn

Revision: 0002, after 0001
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

Columns = dict[str, list[sa.Column[Any]]]


def _columns() -> Columns:
    """New columns of old tables. Those that are never NULL have a default in the database, for
    the rows that are there."""
    return {
        "clusters": [
            sa.Column("first_number", sa.Integer(), nullable=True),
            sa.Column("last_number", sa.Integer(), nullable=True),
            sa.Column("newest_number", sa.Integer(), nullable=True),
        ],
        "nodes": [
            sa.Column("offline_since", sa.Double(), nullable=True),
            sa.Column("foreign_mib", sa.Integer(), nullable=False, server_default="0"),
            sa.Column("foreign_cpus", sa.Integer(), nullable=False, server_default="0"),
            sa.Column("foreign_numbers", sa.JSON(), nullable=False, server_default="[]"),
            sa.Column("images", sa.JSON(), nullable=True),
            sa.Column("is_maintenance", sa.Boolean(), nullable=False, server_default=sa.false()),
            sa.Column("max_desktops", sa.Integer(), nullable=True),
        ],
        "reservations": [
            sa.Column("cpus", sa.Integer(), nullable=False, server_default="0"),
            sa.Column("image", sa.String(), nullable=False, server_default=""),
            sa.Column("tenant", sa.String(), nullable=False, server_default=""),
        ],
        "sessions": [sa.Column("replaced_by", sa.String(), nullable=True)],
    }


# What a reservation of 1.1 left to its session.
FILL = """UPDATE reservations SET
    cpus = coalesce((SELECT s.cpus FROM sessions s WHERE s.name = reservations.session), 0),
    image = coalesce((SELECT s.image FROM sessions s WHERE s.name = reservations.session), ''),
    tenant = coalesce((SELECT s.tenant FROM sessions s WHERE s.name = reservations.session), '')"""
NOW = {
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "CAST(extract(epoch FROM now()) AS double precision)",
}


def upgrade() -> None:
    for table, columns in _columns().items():
        for column in columns:
            op.add_column(table, column)
    op.execute(FILL)
    now = NOW[op.get_bind().dialect.name]
    op.execute(f"UPDATE nodes SET offline_since = {now} WHERE NOT is_online")
    _make_tables()


def _make_tables() -> None:
    op.create_table(
        "numbers",
        sa.Column("cluster", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("session", sa.String(), nullable=True),
        sa.Column("is_foreign", sa.Boolean(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["cluster"], ["clusters.name"]),
        sa.PrimaryKeyConstraint("cluster", "number"),
        sa.UniqueConstraint("session"),
    )
    op.create_table(
        "gates",
        sa.Column("cluster", sa.String(), nullable=False),
        sa.Column("storage", sa.String(), nullable=False),
        sa.Column("slots", sa.Double(), nullable=False),
        sa.Column("clone_s", sa.Double(), nullable=False),
        sa.Column("alone_s", sa.Double(), nullable=True),
        sa.Column("ceiling", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["cluster"], ["clusters.name"]),
        sa.PrimaryKeyConstraint("cluster", "storage"),
    )
    op.create_table(
        "passes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("session", sa.String(), nullable=False),
        sa.Column("cluster", sa.String(), nullable=False),
        sa.Column("storage", sa.String(), nullable=False),
        sa.Column("lease", sa.String(), nullable=False),
        sa.Column("entered_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("session"),
    )
    op.create_index("passes_gate", "passes", ["cluster", "storage", "id"])


def downgrade() -> None:
    for table in ("passes", "gates", "numbers"):
        op.drop_table(table)
    for table, columns in _columns().items():
        for column in columns:  # not in a batch: that makes SQLite's table anew, against its keys
            op.drop_column(table, column.name)
