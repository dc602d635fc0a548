"""The negative control: one architecture under two names (twins) must not be told apart from itself."""

from levelground.comparing.prose import Finding, between, count_of, p_value, score, signed, whether
from levelground.records import Record


def twins(record: Record) -> list[Finding]:
    """The negative control: one architecture under two names must not be told apart from itself."""
    twin_of = {entry["name"]: entry["twin_of"] for entry in record["architectures"] if entry["twin_of"]}
    findings = []
    for twin, original in twin_of.items():
        pair = next((p for p in record["architecture_pairs"] if {p["a"], p["b"]} == {twin, original}), None)
        findings.append(_twin_seeds(record, twin, original) if pair is None else _twin_verdict(pair, twin, original))
    return findings


def _twin_verdict(pair: Record, twin: str, original: str) -> Finding:
    evidence = f"{signed(pair['delta'])}, 95 % interval {between(pair['interval'], sign=True)}, {p_value(pair['p'])}"
    figures = {"twin": twin, "original": original, "delta": pair["delta"], "verdict": pair["verdict"]}
    if pair["verdict"] in ("better", "worse"):
        text = (
            f"The negative control failed: {original} and {twin} are one architecture under two names, yet they are "
            f"told apart ({evidence}). One control in 20 fails by chance; trust no difference of this size."
        )
        return Finding("twins", "warning", text, figures)
    text = (
        f"The negative control holds: {original} and {twin} are one architecture under two names, and they are not "
        f"told apart ({evidence})."
    )
    return Finding("twins", "finding", text, figures)


def _twin_seeds(record: Record, twin: str, original: str) -> Finding:
    """With one seed a side: how easily mere seeds are told apart among weights."""
    own = {name: set(entry["runs"]) for entry in record["architectures"] for name in [entry["name"]]}
    pairs = [
        pair
        for pair in record["pairs"]
        if (pair["a"] in own[twin] and pair["b"] in own[original])
        or (pair["b"] in own[twin] and pair["a"] in own[original])
    ]
    apart = [pair for pair in pairs if pair["verdict"] in ("better", "worse")]
    largest = max((abs(pair["delta"]) for pair in pairs if pair["delta"] is not None), default=None)
    text = (
        f"{original} and {twin} are one architecture under two names: only the seed differs. Of "
        f"{count_of(len(pairs), 'pair')} of their weights {len(apart)} {whether(len(apart), 'is', 'are')} told apart; "
        f"the largest difference is {score(largest)}. "
        "Differences of this size between weights say nothing about architectures."
    )
    figures = {"twin": twin, "original": original, "pairs": len(pairs), "apart": len(apart), "largest": largest}
    return Finding("twins", "warning", text, figures)
