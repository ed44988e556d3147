"""Language models: one module per provider, each pipecat's own service behind a client that reads along."""
