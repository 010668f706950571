"""The spine: deliveries, leases, schedules, dead letters, feeds. Tables in schema `spine`."""
