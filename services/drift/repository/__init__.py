"""Every SQL statement of the room: its own tables, and the views and feeds that it reads."""
