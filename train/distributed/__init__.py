"""Process groups: one process, several on a machine, torchrun or SLURM."""
