"""Marks the smoke part of the shipped suites. Not by a mark in the suites: it would be unknown to who runs them."""

import pytest

SMOKE = {
    "test_read_is_level_triggered",
    "test_write_is_level_triggered",
    "test_ready_ends_the_wait",
    "test_only_callbacks_present_at_the_start_of_an_iteration_run_in_it",
    "test_add_callback_wakes_a_sleeping_loop",
    "test_handler_gets_what_was_given",
    "test_four_steps",
    "test_call_soon_is_first_in_first_out",
    "test_tasks_take_turns",
    "test_protocols",
    "test_subprocess",
}


@pytest.hookimpl(tryfirst=True)  # before `-m smoke` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if getattr(item, "originalname", None) in SMOKE:
            item.add_marker(pytest.mark.smoke)
