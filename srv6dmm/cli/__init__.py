"""The command srv6dmm: one file per noun."""
