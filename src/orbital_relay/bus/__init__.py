"""The ways in which servers tell each other what happened."""
