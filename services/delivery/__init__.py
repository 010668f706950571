"""Rings due deliveries, fires schedules, buries what never ends, pushes events to subscribers."""
