"""Data sets: folders, caption lists, COCO files and tar shards behind one interface."""
