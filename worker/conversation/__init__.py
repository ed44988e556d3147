"""What a conversation is: its checkpoint, its history, its events and what it cost. Pure: no I/O."""
