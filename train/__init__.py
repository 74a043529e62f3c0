"""How the projection learns: recipes, data, the objective and its loop, and what is measured."""
