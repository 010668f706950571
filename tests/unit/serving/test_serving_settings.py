from __future__ import annotations

import pytest
from pydantic import ValidationError

from services.serving.settings import ServingSettings, count_physical_cores


def test_every_interface_needs_a_name_that_callers_can_reach():
    with pytest.raises(ValidationError, match="PERPETUNE_SERVING_ADVERTISED_HOST"):
        ServingSettings(host="0.0.0.0")
    assert ServingSettings(host="0.0.0.0", advertised_host="serving").advertised_host == "serving"


def test_values_come_from_variables_with_the_prefix(monkeypatch):
    monkeypatch.setenv("PERPETUNE_SERVING_SLOTS", "3")
    assert ServingSettings().slots == 3


def test_a_model_gets_half_the_cores_this_process_may_use_and_the_scorer_all():
    cores = count_physical_cores()
    assert cores >= 1
    assert ServingSettings().threads == max(1, cores // 2)
    assert ServingSettings().scoring_threads == cores
