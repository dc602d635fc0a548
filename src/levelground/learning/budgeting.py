"""How many steps a budget is, and a first look whether training works at all; both on a copy that is thrown away."""

import copy
import dataclasses
import math
import statistics
import time

from levelground.console import say
from levelground.errors import TrainingError
from levelground.learning.plan import Plan, make_stepper
from levelground.learning.validation import validate
from levelground.networks.models import with_network
from levelground.recipe import Budget

PROBE_STEPS = 3
"""Steps that ``--minutes`` times, after as many to warm up, on a copy that is thrown away."""


LONG_PROBE_S = 20.0
"""When timing has taken so long, as with whole scenes on a CPU, two steps tell enough."""


VALIDATION_SHARE = 0.25
"""Largest share of ``--minutes`` that goes into validation; there are fewer rounds where they would take more."""


def plan_budget(plan: Plan, budget: Budget) -> Plan:
    """Fix the number of steps and validations; minutes are turned into steps by timing some on a copy."""
    recipe = plan.recipe
    if budget.steps is not None:
        return dataclasses.replace(plan, steps=budget.steps)
    if budget.minutes is None:
        steps = round((budget.epochs or recipe.default_epochs) * plan.steps_per_epoch)
        return dataclasses.replace(plan, steps=max(1, steps))
    started = time.monotonic()
    step_s, validation_s = probe(plan)
    spent = time.monotonic() - started
    affordable = max(1, int(VALIDATION_SHARE * 60 * budget.minutes / validation_s))
    rounds = min(recipe.validations, affordable)
    left = 60 * budget.minutes - spent - rounds * validation_s
    per_step = step_s if rounds else step_s + validation_s / plan.steps_per_epoch
    steps = max(1, int(left / per_step))
    say(
        f"{plan.folder.name}: {budget.minutes:g} minutes are {steps} steps at {step_s:.2f} s each and "
        f"{rounds or 'a validation an epoch'}{' validations' if rounds else ''} at {validation_s:.1f} s."
    )
    return dataclasses.replace(plan, steps=steps, validations=rounds)


def probe(plan: Plan) -> tuple[float, float]:
    """Time training steps and a validation on a copy of the network.

    Returns:
        Seconds of a step (the median of :data:`PROBE_STEPS`), and of a validation of all validation scenes.
    """
    plan = _copy(plan)
    stepper, times = make_stepper(plan), [0.0]
    for number in range(2 * PROBE_STEPS):
        started = time.perf_counter()
        stepper.step(number, plan.source[number]).item()
        times.append(time.perf_counter() - started)
        if sum(times) > LONG_PROBE_S and number:
            break
    areas = {i: plan.dataset.scene(i).height * plan.dataset.scene(i).width for i in plan.dataset.ids("val")}
    smallest = min(areas, key=areas.__getitem__)
    started = time.perf_counter()
    validate(plan, stepper.model, [smallest])
    seconds = time.perf_counter() - started
    return statistics.median(times[len(times) // 2 :]), seconds * sum(areas.values()) / areas[smallest]


def sanity_check(plan: Plan) -> None:
    """Train one epoch on two scenes with a copy of the network, as the origin study does, to fail early.

    Raises:
        TrainingError: The loss is no number.
    """
    stepper = make_stepper(_copy(plan))
    steps = max(1, min(plan.steps_per_epoch, math.ceil(2 / plan.recipe.batch)))
    losses = [stepper.step(number, plan.source[number]).item() for number in range(steps)]
    if not all(math.isfinite(loss) for loss in losses):
        raise TrainingError(f"{plan.folder.name}: sanity check: the loss is {losses[-1]}. Lower --lr or mend the data.")
    say(f"{plan.folder.name}: sanity check on two scenes passed, loss {losses[-1]:.3f}.")


def _copy(plan: Plan) -> Plan:
    model = with_network(plan.model, copy.deepcopy(plan.model.network))
    return dataclasses.replace(plan, model=model, runtime=plan.runtime.alone())
