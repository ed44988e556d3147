"""Limits, priorities, retention.

Deployment: pre
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Give organizations settings of their own."""
    op.add_column("organizations", sa.Column("settings", sa.JSON(), server_default=sa.text("'{}'"), nullable=False))
