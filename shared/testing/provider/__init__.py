"""A fine-tuning service that does what a test says, on real sockets."""

from shared.testing.provider.protocol import answer_with, word
from shared.testing.provider.server import TrainingService

__all__ = ["TrainingService", "answer_with", "word"]
