"""The one place where a chat becomes tokens: for training, for serving and for counting."""
