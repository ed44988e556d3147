"""Celery: how work is spread over processes. Messages carry ids, never data, and losing any of them loses nothing."""
