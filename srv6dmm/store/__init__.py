"""What must not be lost: one interface, several back ends."""
