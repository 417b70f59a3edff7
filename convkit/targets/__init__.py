"""Targets: what an accelerator takes, as data with a grammar, and the judge that applies it.

target = load_target("mali-gpu")
verdict = judge(graph, target)
verdict.summary, verdict.ops[3].status, verdict.ops[3].reasons, verdict.fixes
"""

from convkit.targets.judge import GraphVerdict, OpVerdict, Reason, Status, judge, judge_op
from convkit.targets.loader import available_targets, load_rule_file, load_target, rule_folders
from convkit.targets.scheme import QdqScheme
from convkit.targets.target import Rule, RuleSeverity, Target

__all__ = [
    "GraphVerdict",
    "OpVerdict",
    "QdqScheme",
    "Reason",
    "Rule",
    "RuleSeverity",
    "Status",
    "Target",
    "available_targets",
    "judge",
    "judge_op",
    "load_rule_file",
    "load_target",
    "rule_folders",
]
