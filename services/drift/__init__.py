"""Baselines, monitors and alerts: has a live release become worse than it was?"""
