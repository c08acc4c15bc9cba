"""Who is at work in a store: owners of files, items being written, stages that run."""
