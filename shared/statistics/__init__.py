"""Pure statistics behind the automatic decisions: no I/O, no clock, no hidden randomness.

Every state is a frozen dataclass of floats and integers that is only multiplied, divided, added and
compared, so folding the same feed again gives the same bits on any machine.
"""
