"""Gemini's API, and Vertex AI's."""
