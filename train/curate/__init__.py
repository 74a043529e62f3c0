"""Curation of descriptions for stage 2 (arXiv 2304.10592, section 3.2): describe, repair, filter, review."""
