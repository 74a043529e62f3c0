"""Memory, FLOPs and hours of a run, estimated before it starts."""
