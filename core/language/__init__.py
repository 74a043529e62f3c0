"""Language models: token ids and image embeddings in, a stream of tokens out."""
