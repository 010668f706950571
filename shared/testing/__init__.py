"""Instruments for tests of the whole system. No service imports them."""
