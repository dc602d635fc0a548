"""Hand-made facts that take every branch of every sentence, for the golden file of messages."""

from dataclasses import replace

from levelground.comparison import caveats, descriptions, facts, findings, places, speeds
from levelground.comparison.conditions import SeparatedGroup
from levelground.comparison.facts import Fact, Measure, Opponent, PairVerdict, Scope
from levelground.comparison.results import OpenPairPower

MIOU = Measure("official.miou", ("official",))
KEPT_WATER = Measure("kept.iou:Water", ("official", "kept", "all"))
BOUNDARY = Measure("boundary.miou", ("official",))

BETTER = PairVerdict("unet s0", "fpn s0", MIOU, "better", 0.034, (0.012, 0.056), 0.003, 0.01, True)

PAIRS = (
    BETTER,
    replace(BETTER, verdict="worse", delta=-0.034, interval=(-0.056, -0.012), measure=KEPT_WATER, p_holm=1e-6),
    replace(BETTER, verdict="equal", delta=0.004, interval=(0.001, 0.007)),
    replace(BETTER, verdict="equal", delta=0.001, interval=(-0.005, 0.007), excludes_zero=False),
    replace(BETTER, verdict="undecided", interval=(-0.01, 0.078), p_holm=0.13, excludes_zero=False),
    replace(BETTER, verdict="undecided", interval=(-0.01, 0.078), p_holm=None, measure=BOUNDARY, excludes_zero=False),
    replace(BETTER, verdict="undecided", interval=None, p_holm=None, excludes_zero=False),
    replace(BETTER, verdict="undecided", interval=None, p_holm=None, excludes_zero=False, delta=None),
)

FPN = Opponent("fpn-s0", "fpn s0", 0.48, 0.004, (-0.006, 0.014), 0.22, False)
CLEAR = Opponent("pspnet-s0", "pspnet s0", 0.4, 0.084, (0.06, 0.108), 0.0004, True)
NEAR = Opponent("pan-s0", "pan s0", 0.48, 0.004, (0.001, 0.007), 0.01, True)

WEIGHTS, ARCHITECTURES = Scope("test", 30, None), Scope("test", 30, (3, 3))
LEADER = facts.Headline(MIOU, "unet-s0", "unet s0", 0.484, (FPN,), (), (), 0.01, WEIGHTS)
LONE = facts.LoneHeadline(MIOU, "unet", "unet s0", 0.484, (0.44, 0.5), 1, 30, "test")

POWER = OpenPairPower(
    delta=0.01, alpha=0.05, detectable=0.031, groups_needed=1234, seeds_needed=None, groups_for_equal=900,
    seeds_for_equal=None, power=0.8, groups=10, pair=("unet-s0", "fpn-s0"),
)  # fmt: skip
OF_SEEDS = replace(POWER, seeds=2, groups_share=0.7, seeds_needed=21, seeds_for_equal=8)
TWO = ("unet s0", "fpn s0")
FOLDS = SeparatedGroup(group="a", scored=("scene1",), other=("scene3",), other_split="fold 2")
LEAK = SeparatedGroup(group="a", scored=("scene1", "scene2"), other=("scene3",), other_split="train")

HEADLINES: tuple[Fact, ...] = (
    LEADER,
    replace(LEADER, undecided=(FPN, replace(FPN, label="pan s0")), better=(CLEAR,), scope=ARCHITECTURES),
    replace(LEADER, undecided=(replace(FPN, interval=None, p_holm=None),), scope=Scope("val", 1, (2, 3))),
    replace(LEADER, scope=Scope("test", 10, None, folds=5)),
    replace(LEADER, undecided=(), better=(CLEAR,), scope=Scope("test", 10, (2, 3), folds=5)),
    replace(LEADER, undecided=(FPN,), equal=(NEAR,), better=(CLEAR, CLEAR)),
    replace(LEADER, undecided=(), equal=(FPN, NEAR), better=(CLEAR,)),
    replace(LEADER, undecided=(), equal=(NEAR,)),
    replace(LEADER, undecided=(), better=(CLEAR,), measure=KEPT_WATER),
    replace(LEADER, undecided=(), better=(CLEAR,), steps=(400, 400)),
    replace(LEADER, undecided=(), better=(CLEAR,), steps=(400, 400), still_rising=True),
    replace(LEADER, undecided=(), better=(CLEAR,), steps=(48, 48), still_rising=True),
    replace(LEADER, steps=(1, 48)),
    replace(LEADER, steps=(1, 1)),
    replace(LEADER, steps=(0, 1)),
    replace(LEADER, undecided=(), better=(CLEAR,) * 6),
    replace(LEADER, undecided=(replace(FPN, value=0.39),), better=(CLEAR,)),
    LONE,
    replace(LONE, interval=None, scenes=1),
    replace(LONE, label="unet", seeds=3),
    replace(LONE, label="unet", seeds=3, interval=None),
    facts.NoRanking(MIOU),
)

ORDER = findings.OrderOverBudget(("fpn", "unet", "pspnet"), "12 steps", "48 steps", always=True)
BUDGETS: tuple[Fact, ...] = (
    ORDER,
    replace(ORDER, since="24 steps", always=False, changed=(("fpn", "unet"),), before="12 steps"),
    replace(ORDER, since="48 steps", always=False, changed=(("fpn", "unet"), ("fpn", "pspnet")), before="24 steps"),
    findings.LeaderChanges({"12 steps": "unet", "48 steps": "fpn"}, ("12 steps", "48 steps"), shown=True),
    findings.LeaderChanges({"12 steps": "unet", "48 steps": "fpn"}, ("12 steps", "48 steps"), shown=False),
)

CAVEATS: tuple[Fact, ...] = (
    *BUDGETS,
    facts.OneGroupDecides("7", "unet s0", (CLEAR, NEAR), ((0.004, (-0.01, 0.02), "undecided"),) * 2, ("better",) * 2),
    facts.OneGroupDecides(
        "north/7",
        "unet s0",
        (CLEAR, NEAR, CLEAR),
        ((-0.004, (-0.01, 0.002), "undecided"), (0.004, (-0.01, 0.02), "undecided"), (0.004, (0.001, 0.007), "equal")),
        ("better", "equal", "better"),
    ),
    facts.RankedFirst({"fpn": 0.15, "unet": 0.8497, "pspnet": 0.0002, "pan": 0.0001}),
    facts.RankedFirst({"fpn": 0.0, "unet": 1.0}),
    facts.RankedFirst({"fpn": 0.002, "unet": 0.998}),
    facts.EqualPairs((PAIRS[2], PAIRS[3]), (("unet-s0", "fpn-s0"), ("unet-s0", "fpn-s0"))),
    facts.EqualPairs((PAIRS[2],) * 4, (("unet-s0", "fpn-s0"),) * 4),
    facts.EqualPairs((PAIRS[2],) * 5, (("unet-s0", "fpn-s0"),) * 5),
    facts.WhatWouldDecide(10, POWER, detects=True, labels=TWO),
    facts.WhatWouldDecide(1, replace(POWER, groups_needed=1, groups_for_equal=1), detects=False, labels=TWO),
    facts.WhatWouldDecide(10, replace(POWER, groups_needed=None), detects=True, labels=TWO),
    facts.WhatWouldDecide(10, OF_SEEDS, detects=True, labels=TWO),
    facts.WhatWouldDecide(10, replace(OF_SEEDS, seeds_needed=None), detects=True, labels=TWO),
    facts.WhatWouldDecide(10, replace(OF_SEEDS, groups_needed=None, seeds_needed=7), detects=True, labels=TWO),
    facts.WhatWouldDecide(
        10,
        replace(OF_SEEDS, groups_needed=None, seeds_needed=1, seeds_for_equal=1),
        detects=True,
        labels=TWO,
    ),
    facts.WhatWouldDecide(
        10,
        replace(OF_SEEDS, seeds=1, groups_needed=None, seeds_needed=None),
        detects=False,
        labels=TWO,
    ),
    caveats.CannotShow(0.125, 4, 1, 6, 4),
    caveats.CannotShow(0.375, 1, 3, 1, 1),
    caveats.CannotShow(0.0625, 5, 1, 6, 40),
    caveats.CannotShow(1.0, 1, 3, 1, 20),
    caveats.FewGroups(19, 12345, "test"),
    caveats.FewGroups(1, 1, "test"),
    caveats.OneGroup(1, 1, "test"),
    caveats.OneGroup(1, 8, "val"),
    caveats.RareClasses({"Rangeland": 4}, 30),
    caveats.RareClasses({"Rangeland": 4, "Water": 1}, 30),
    caveats.LoneSeeds(("fpn",)),
    caveats.LoneSeeds(("fpn", "pan")),
    caveats.LoneSeedsBeside(("fpn",)),
    caveats.LoneSeedsBeside(("fpn", "pan")),
    caveats.ControlHolds("unet twin", "unet", 0.002, (-0.01, 0.014), 0.7, "undecided"),
    caveats.ControlHolds("unet twin", "unet", 0.002, None, None, "undecided"),
    caveats.ControlFailed("unet twin", "unet", 0.02, (0.01, 0.03), 1e-6, "better"),
    caveats.ControlFailed("unet twin", "unet", 0.02, (0.01, 0.03), 1e-6, "better", controls=12),
    caveats.TwinSeeds("unet twin", "unet", 1, 1, 0.02),
    caveats.TwinSeeds("unet twin", "unet", 4, 0, None),
    caveats.UnlikeProtocol((caveats.FieldValues("recipe.batch", {"8": ["unet s0"], "16": ["fpn s0", "pan s0"]}),)),
    caveats.UnlikeProtocol(tuple(caveats.FieldValues(f"recipe.field{n}", {"1": ["a"], "2": ["b"]}) for n in range(6))),
    caveats.UnknownProtocol(("theirs",)),
    caveats.UnknownProtocol(("theirs", "others")),
    caveats.FailedRuns({"unet-s0": "DiskError: disk full."}),
    caveats.UnfinishedRuns({"unet-s0": "not begun"}),
    caveats.UnfinishedRuns({"unet-s0": "unfinished", "fpn-s0": "unscored"}),
    caveats.FailedRuns({"unet-s0": "DiskError: disk full.", "folds/1/fpn-s0": "was lost 3 times"}),
    caveats.SeparatedGroups((LEAK,), "test"),
    caveats.SeparatedGroups((LEAK, LEAK), "test"),
    caveats.SeparatedGroups((FOLDS,), "test"),
    caveats.SeparatedGroups((FOLDS, FOLDS), "test"),
    places.OneRaster(),
    places.UnlikeGroups(24, 5.4),
    places.FewRegions(24, ("north", "south", "coast"), None),
    places.FewRegions(24, ("scene1", "scene2"), 37.3),
    places.NamedPlaces(1),
    places.NamedPlaces(24),
    caveats.UnlikeGroundDistances("s3"),
    caveats.UnlikeBands("s3"),
    caveats.IdenticalCounts((("unet s0", "fpn s0"),)),
    caveats.IdenticalCounts((("unet s0", "fpn s0"), ("a", "b", "c"))),
    places.HeavyGroup("north", 0.62),
    places.UnknownPlaces(24, "test"),
    caveats.Exploratory("boundary.miou", 0.02, "official.miou", 0.01),
    caveats.EvaluationsOnTest({"unet s0": 1, "fpn s0": 1}, 2, 2, 0),
    caveats.EvaluationsOnTest({"unet s0": 1, "fpn s0": 0, "pan s0": 0}, 1, 3, 0),
    caveats.EvaluationsOnTest({}, 1, 1, 0),
    caveats.RepeatedEvaluationsOnTest({"unet s0": 3, "fpn s0": 0}, 4, 2, 1),
    caveats.RepeatedEvaluationsOnTest({"unet s0": 1, "fpn s0": 1}, 5, 2, 2),
    caveats.RepeatedEvaluationsOnTest({"unet s0": 2, "fpn s0": 2, "pan s0": 1}, 5, 3, 0),
    caveats.RepeatedEvaluationsOnTest({}, 9, 2, 0),
)

DESCRIPTIONS: tuple[Fact, ...] = (
    descriptions.ConvergesFirst({"unet": 100, "fpn": 50}, {"unet": 2.0, "fpn": 1.0}, {"unet": 2.0, "fpn": 6.0}),
    descriptions.ConvergesFirst({"unet": 100, "fpn": 50, "pan": 50}, {}, {"unet": 2.0}),
    descriptions.ConvergesFirst({"unet": 1, "fpn": 1}, {"unet": 1.0, "fpn": 1.0}, {}),
    descriptions.ConvergesFirst({"unet": 1, "fpn": 1}, {}, {}),
    descriptions.StillLearning({"unet": 0.05}, 0.01),
    descriptions.StillLearning({"unet": 0.012, "fpn": 0.05}, 0.01),
    speeds.UnlikeMachines(("unet s0", "fpn s0")),
    speeds.UnlikeTrainingMachines(("unet s0", "fpn s0")),
    speeds.Faster({"unet": 2.0, "pspnet": 6.0, "fpn": 0.25}),
    speeds.Faster({"unet": 5.0, "pspnet": 6.0, "fpn": 0.25}, ("unet",)),
    speeds.Faster({"unet": 2.0, "pspnet": 6.0, "fpn": 6.0}),
    speeds.Faster({"unet": 14.2, "pspnet": 14.2}),
    speeds.FasterTraining({"unet": 2.0, "pspnet": 6.0}),
    speeds.FasterTraining({"unet": 2.0, "pspnet": 6.0, "fpn": 6.0}),
    speeds.FasterTraining({"unet": 4.0, "pspnet": 4.0}),
    descriptions.UnlikeSteps("2 minutes", {"unet": 1, "pspnet": 1200}),
    descriptions.TrainedElsewhere({"north": ("unet s0", "fpn s0"), "east": ("fpn s1",)}, {"north": 7, "east": 1}, True),
    descriptions.TrainedElsewhere({"north": ("unet s0",)}, {"north": None}, False),
    descriptions.UnlikeTrainable({"unet": 1.0, "pspnet": 0.1}),
    descriptions.ConfusedMost("pspnet", (descriptions.Confusion(0.31, 1, 0, ("Rangeland", "Agriculture land")),)),
    descriptions.NeverPredicted(1, "Rangeland", 0.45, ("fpn",), all_models=False),
    descriptions.NeverPredicted(1, "Rangeland", 0.45, ("fpn", "unet"), all_models=False),
    descriptions.NeverPredicted(1, "Rangeland", 0.0064, ("fpn", "unet"), all_models=True),
    descriptions.NeverPredictedUncounted(6, "Unknown", 0.05, ("fpn",), all_models=False),
    descriptions.AbsentClasses({1: "Rangeland"}, "test"),
    descriptions.AbsentClasses({1: "Rangeland", 4: "Water"}, "test"),
    descriptions.SameRanking(("official", "kept", "all")),
    descriptions.RankFlips(
        KEPT_WATER, {"all.miou": [("unet-s0", "fpn-s0")]}, {"unet-s0": "unet s0", "fpn-s0": "fpn s0"}
    ),
    descriptions.RankFlipsOfMetrics(
        MIOU,
        {"official.mf1": [("a", "b")] * 3, "loss": [("a", "b")], "official.iou:Water": [("b", "a")]},
        {"a": "unet s0", "b": "fpn s0"},
    ),
    *(
        descriptions.RankFlipsOfMetrics(
            MIOU, {f"metric{n}": [("a", "b")] for n in range(size)}, {"a": "unet s0", "b": "fpn s0"}
        )
        for size in (4, 5)
    ),
)
