"""The control service: event, decision, commit, plans, staged roll-out."""
