"""Real servers from Python packages, so that a machine with nothing installed runs the real thing."""
