"""The only room that touches a kernel."""
