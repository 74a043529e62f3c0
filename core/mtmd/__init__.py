"""Pictures of any family through libmtmd, llama.cpp's library for them: an mmproj GGUF beside a language GGUF."""
