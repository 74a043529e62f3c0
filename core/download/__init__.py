"""Downloads with resume, locks, checksums and several sources per file."""
