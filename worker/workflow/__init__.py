"""What an agent is: its definition, its graph, its templates and its model. Pure: no I/O."""
