"""Where photos with captions come from: tar shards, lists, pairs of files, COCO's and MiniGPT-4's own."""
