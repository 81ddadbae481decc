"""What the site has and the repository has not: pages completed from the code they tell of.

`python -m docket_site` writes the pages that the site is built from, and `python -m docket_site check` looks at what was built. Nothing it writes
is kept in the repository. A page says where something is to stand, and what stands there for those who read the file itself:

    <!-- generated: keys -->
    *On the site, a table of all keys stands here.*
    <!-- end of generated -->

The makers, one for each such name, are in `parts`. Building the site is the business of the site generator, which reads mkdocs.yml.
"""

__all__: list[str] = []
