"""docket in other people's frameworks: `docket.integrations.fastapi`, `docket.integrations.django`, `docket.integrations.sentry`.

Each is a module of its own, which needs the extra of its name (`pip install 'pydocket[fastapi]'`). Nothing else in docket imports them.
"""

__all__: list[str] = []
