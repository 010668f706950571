"""The audit log: who did what, when and why; append-only by role and trigger."""
