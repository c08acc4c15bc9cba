"""Room cluster: one call a slide, spread over Dask workers. Imports base and params; every stage's room may enter."""
