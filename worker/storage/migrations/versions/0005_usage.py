"""Usage by organization and time, what each call was for, and where a turn was asked for.

Deployment: pre
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two columns and an index."""
    op.execute("ALTER TABLE turns ADD COLUMN trace_context JSON")
    op.execute("ALTER TABLE usage_entries ADD COLUMN purpose TEXT DEFAULT 'conversation' NOT NULL")
    op.execute(
        "CREATE INDEX ix_usage_entries_organization_id_created_at ON usage_entries (organization_id, created_at)"
    )
