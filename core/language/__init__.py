"""Language models: a prompt of tokens and image embeddings in, a stream of tokens out."""
