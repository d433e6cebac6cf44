"""The fast path: eBPF programs at the tc hooks, their maps, and what is kept in them."""
