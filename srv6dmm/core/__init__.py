"""Decisions: pure functions from state and event to new state and effects."""
