"""One turn through pipecat, from "this turn is claimed" to "here is its outcome": no SQL, no Redis, no Celery."""
