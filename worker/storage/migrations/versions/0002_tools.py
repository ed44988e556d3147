"""Tools with their numbered versions.

Deployment: pre
"""

from __future__ import annotations

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Not filled in yet."""
