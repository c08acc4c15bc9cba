"""A run of the tokens stage: workers, batches, the stream through the device, and what collects its answers."""
