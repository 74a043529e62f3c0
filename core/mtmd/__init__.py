"""Pictures of any family through libmtmd, llama.cpp's library for them: an mmproj beside a language GGUF."""
