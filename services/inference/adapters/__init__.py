"""The world of inference: llama.cpp processes and the model server that starts them."""
