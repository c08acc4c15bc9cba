"""What distillation is worth in labels: the same net trained on those labels alone."""
