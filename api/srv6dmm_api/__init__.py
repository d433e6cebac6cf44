"""The HTTP face of the controller."""
