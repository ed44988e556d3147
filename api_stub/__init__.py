"""The thin HTTP API in front of the worker, and the client library for it: validate, write, read."""
