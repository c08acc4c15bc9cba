"""Several students side by side: the Pareto front, and experiments compared."""
