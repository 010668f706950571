"""Kinds of training that are offered, by OpenAI's names."""

SUPERVISED, DPO = "supervised", "dpo"
METHODS = (SUPERVISED, DPO)

# Of preference training: how dear it is to leave the weights training starts from.
# Source: Rafailov et al., Direct Preference Optimization, 2023.
USUAL_BETA = 0.1
