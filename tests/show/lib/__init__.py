"""What the commands in tests/show and tests/clients share. Standard library only."""
