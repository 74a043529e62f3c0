"""The paper's ablations: which models are trained and compared, and the report of their evaluations."""
