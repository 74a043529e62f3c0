"""`minigpt4 eval`: suites of questions about known pictures, judges, reports and ablations."""
