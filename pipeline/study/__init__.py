"""Room study: arms of one plan over several seeds, run as DVC experiments, and their table."""
