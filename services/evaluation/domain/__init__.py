"""Decisions of evaluation: grading an answer, measuring a side, judging by the gate's rules."""
