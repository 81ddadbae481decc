"""The version, stated once: the build reads it from here, and so does `docket.__version__`."""

__all__ = ["__version__"]

__version__ = "1.0.0.dev0"
"""The version of the docket that is installed."""
