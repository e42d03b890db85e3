"""A class is whole after `__init__`: no method adds an attribute."""

import ast
from pathlib import Path

import harness

PACKAGE = Path(harness.__file__).parent
UNFINISHED = {"Batches", "Gradual"}
"""Classes that still break the rule. The set may only shrink."""


def late_attributes(definition):
    """Return the attributes that methods add to a class which neither its body nor `__init__` declares."""
    declared, assigned = set(), set()
    for node in definition.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        declared |= {target.id for target in targets if isinstance(target, ast.Name)}
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            is_init = node.name in ("__init__", "__new__")
            (declared if is_init else assigned).update(
                part.attr
                for part in ast.walk(node)
                if isinstance(part, ast.Attribute)
                and isinstance(part.ctx, ast.Store)
                and isinstance(part.value, ast.Name)
                and part.value.id == "self"
            )
    return assigned - declared


def test_no_class_gains_attributes_after_init():
    late = {
        definition.name: sorted(attributes)
        for file in PACKAGE.rglob("*.py")
        for definition in ast.walk(ast.parse(file.read_text()))
        if isinstance(definition, ast.ClassDef) and (attributes := late_attributes(definition))
    }
    assert late.keys() <= UNFINISHED, late
