"""What every test may ask for."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.servers", "tests.system_fixtures", "tests.engine_rules"]

# A machine that is busy draws slowly; that says nothing about what is tested.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
