"""Fine-tuning jobs: life cycle, training, checkpoints and cost."""
