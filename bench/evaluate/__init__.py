"""Where the stage evaluate spends its time."""
