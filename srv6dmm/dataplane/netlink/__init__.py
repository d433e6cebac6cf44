"""Our own netlink: bytes of the messages we use, and the sockets that carry them."""
