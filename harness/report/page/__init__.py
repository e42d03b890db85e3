"""One HTML file that says what a sweep found: the decision first, then all that stands behind it.

What the page shows is gathered as plain data from the store's tables alone (`sweep_data`, `decision`, the figures);
`render` makes the file of it.
"""
