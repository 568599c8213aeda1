"""Training: recipes, the training loop, and the models that come out of it."""
