"""Property tests judge what is true, not how fast a noisy machine finds it out."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("observer", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("observer")
