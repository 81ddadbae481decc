"""Makes `python -m docket` the command line."""

from docket.cli import app

__all__ = ["app"]

if __name__ == "__main__":
    app(prog_name="docket")
