"""The local stack: real Postgres and Valkey from wheels and our processes, under one supervisor."""
