"""Documents and their chunks.

Deployment: pre
"""

from __future__ import annotations

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Not filled in yet."""
