"""What is done once when a session ends.

Deployment: pre
"""

from __future__ import annotations

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Not filled in yet."""
