"""The real API over real servers."""

from __future__ import annotations

from tests.api_fixtures import api, app, bell, other, served, server, settings

__all__ = ["api", "app", "bell", "other", "served", "server", "settings"]
