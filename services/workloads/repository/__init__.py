"""Every SQL statement of the room: its own tables, and the views of others that it reads."""
