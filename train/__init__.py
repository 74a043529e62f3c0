"""Training of the projection: recipes, data, the training step, the loop, evaluation."""
