"""The REST door: mounts the rooms' routers; owns projects and API keys."""
