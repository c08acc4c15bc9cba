"""The loader, the terms of a training step, and whether a step computes what fp32 eager computes."""
