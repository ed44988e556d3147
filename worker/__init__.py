"""A queue-driven background worker for the turns of text conversations with node-graph AI agents."""
