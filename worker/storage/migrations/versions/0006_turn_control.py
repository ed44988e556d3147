"""Cancelling, policies for a second message, rewinding, forking, retrying, schedules.

Deployment: pre
"""

from __future__ import annotations

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Not filled in yet."""
