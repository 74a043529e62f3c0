"""Diagnosis of the machine: libraries, GPU, terminal, disk, settings."""
