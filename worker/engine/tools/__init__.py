"""The tools a node can carry, besides the transitions that its edges give it."""
