"""Gemini, by its own API and on Vertex AI."""
