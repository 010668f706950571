"""The queue door: requests from each project's queue, answers to the queue the sender names."""
