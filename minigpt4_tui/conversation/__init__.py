"""One conversation: its messages, its engine, its state and slash commands."""
