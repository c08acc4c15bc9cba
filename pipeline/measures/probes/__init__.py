"""What simple classifiers can do with each model's features: linear, nearest neighbours, few labels, slides, pixels."""
