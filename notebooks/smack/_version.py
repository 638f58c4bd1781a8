"""The version, which is that of the `smack` it came with."""

__version__ = "0.1.0"
