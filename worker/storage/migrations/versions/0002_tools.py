"""Tools with their numbered versions, what definitions pin of them, and kinds of secrets.

Deployment: pre
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tools; let definitions pin them and secrets be credentials."""
    op.create_table(
        "tools",
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name="fk_tools_organization_id"),
        sa.PrimaryKeyConstraint("organization_id", "id", name="pk_tools"),
    )
    op.create_index(
        "ix_tools_organization_id_created_at_id", "tools", ["organization_id", "created_at", "id"], unique=False
    )
    op.create_table(
        "tool_versions",
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("tool_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("definition", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id", "tool_id"],
            ["tools.organization_id", "tools.id"],
            name="fk_tool_versions_organization_id_tool_id",
        ),
        sa.PrimaryKeyConstraint("organization_id", "tool_id", "version", name="pk_tool_versions"),
    )
    op.add_column(
        "workflow_definitions", sa.Column("tool_pins", sa.JSON(), server_default=sa.text("'{}'"), nullable=False)
    )
    op.add_column("secrets", sa.Column("kind", sa.Text(), server_default=sa.text("'plain'"), nullable=False))
