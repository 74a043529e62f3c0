"""LLaVA's form of a model: a tower of CLIP or SigLIP and two linear layers, in a folder or an mmproj GGUF."""
