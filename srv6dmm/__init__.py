"""srv6dmm: Distributed Mobility Management on Segment Routing over IPv6."""

__version__ = "0.1.0"
