"""Einsum, attention and rotary embeddings equal onnxruntime's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convkit.diagnostics import ConvkitError
from tests.helpers import check_lowering, normal, one_node

SIZES = {"a": 2, "b": 3, "c": 4, "d": 5, "e": 2, "h": 3, "i": 4, "j": 5, "k": 3}


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize(
    "equation",
    [
        "ij,jk->ik",
        "ij,jk",
        "bij,bjk->bik",
        "bhid,bhjd->bhij",
        "bhij,bhjd->bihd",
        "bid,hd->bih",
        "abc,cd,de->abe",
        "i,j->ij",
        "i,i->",
        "ij,ij->ij",
        "ij->ji",
        "abc->b",
        "abcd->dbca",
        "ij,k->k",
        "abcde,ce->bda",
        "abc,bd,ce->ade",
        "...ij,...jk->...ik",
        "b...i,ij->b...j",
    ],
)
def test_einsum(equation: str, constant: bool) -> None:
    rng = np.random.default_rng(0)
    terms = equation.split("->")[0].split(",")
    values = {
        f"x{i}": normal(rng, *(s for c in term.replace("...", "AE") for s in [SIZES[c.lower()]]))
        for i, term in enumerate(terms)
    }
    last = f"x{len(terms) - 1}"
    constants = {last: values[last]} if constant and len(terms) > 1 else {}
    inputs = {name: x for name, x in values.items() if name not in constants}
    check_lowering(one_node("Einsum", inputs, constants, equation=equation), inputs)


def test_a_diagonal_is_refused() -> None:
    x = np.zeros((3, 3), np.float32)
    with pytest.raises(ConvkitError, match="repeats a label"):
        check_lowering(one_node("Einsum", {"x": x}, equation="ii->i"), {"x": x})


@settings(max_examples=60, deadline=None)
@given(
    st.data(),
    st.sampled_from([(2, 2), (4, 2), (4, 1)]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, "float", "bool"]),
    st.booleans(),
    st.booleans(),
)
def test_attention(
    data: st.DataObject,
    heads: tuple[int, int],
    flat: bool,
    causal: bool,
    masked: str | None,
    constant_mask: bool,
    past: bool,
) -> None:
    rng = np.random.default_rng(0)
    count, shared = heads
    length, size, before = 5, 4, 3 if past else 0
    keys = length if causal else 6

    def tensor(n: int, rows: int) -> np.ndarray:
        return normal(rng, 2, rows, n * size) if flat else normal(rng, 2, n, rows, size)

    inputs = {"q": tensor(count, length), "k": tensor(shared, keys), "v": tensor(shared, keys)}
    constants = {}
    order = ["q", "k", "v"]
    if masked:
        shape = data.draw(st.sampled_from([(length, keys + before), (2, 1, length, keys + before)]))
        mask = normal(rng, *shape) if masked == "float" else rng.random(shape) < 0.7
        if masked == "bool":
            mask[..., 0] = True  # a row that sees nothing has no softmax
        (constants if constant_mask else inputs)["m"] = mask
    if past:
        order += ["m" if masked else "", "pk", "pv"]
        inputs |= {name: normal(rng, 2, shared, before, size) for name in ("pk", "pv")}
    elif masked:
        order.append("m")
    attributes = {"q_num_heads": count, "kv_num_heads": shared} if flat else {}
    model = one_node(
        "Attention",
        inputs,
        constants,
        order=order,
        outputs=["y", "ok", "ov"] if past else ["y"],
        is_causal=int(causal),
        opset=23,
        **attributes,
    )
    check_lowering(model, inputs)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("turned", [0, 4])
@pytest.mark.parametrize("positions", [False, True])
def test_rotary_embedding(interleaved: int, flat: bool, turned: int, positions: bool) -> None:
    rng = np.random.default_rng(0)
    batch, heads, length, size = 2, 3, 5, 8
    half = (turned or size) // 2
    x = normal(rng, batch, length, heads * size) if flat else normal(rng, batch, heads, length, size)
    table = (16, half) if positions else (batch, length, half)
    constants = {"c": normal(rng, *table), "s": normal(rng, *table)}
    inputs = {"x": x}
    if positions:
        inputs["p"] = rng.integers(0, 16, (batch, length))
    model = one_node(
        "RotaryEmbedding",
        inputs,
        constants,
        order=["x", "c", "s", *(["p"] if positions else [])],
        interleaved=interleaved,
        rotary_embedding_dim=turned,
        num_heads=heads,
        opset=23,
    )
    check_lowering(model, inputs)
