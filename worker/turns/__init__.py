"""A turn's life: claimed, loaded, run by the engine, committed, published; and everything that can go wrong on the way."""
