"""The trainer's own Llama, on a tiny random one: invariances, and equality with peft."""

from __future__ import annotations

import math
import random

import pytest
import torch

from services.finetuning.train.base import interleave_rotation, split_rotation
from services.finetuning.train.batches import Pair, Row
from services.finetuning.train.engine import Engine
from services.finetuning.train.lora import from_peft, named_parameters, new_adapter, to_peft
from services.finetuning.train.model import Layer, Llama, Shape
from services.finetuning.train.objectives import Preference, Supervised
from services.finetuning.train.reference import with_reference
from shared.errors import Invalid

SHAPE = Shape(
    layers=2, hidden=24, intermediate=40, heads=3, kv_heads=1, head=8, rope_base=1e4,
    norm_epsilon=1e-5,
)  # fmt: skip
VOCABULARY = 50
SUPERVISED = Supervised()


def make_llama():
    generator = torch.Generator().manual_seed(3)

    def matrix(*size):
        return torch.randn(*size, generator=generator) * 0.2

    embedding = matrix(VOCABULARY, SHAPE.hidden)
    layers = [
        Layer(
            attention_norm=1 + matrix(24),
            qkv=matrix(40, 24),
            output=matrix(24, 24),
            mlp_norm=1 + matrix(24),
            gate_up=matrix(80, 24),
            down=matrix(24, 40),
        )
        for _ in range(SHAPE.layers)
    ]
    return Llama(SHAPE, embedding, layers, norm=1 + matrix(24), head=embedding)


def make_adapter(llama, *, is_fresh=False):
    adapter = new_adapter(llama, rank=4, alpha=8, seed=5)
    if not is_fresh:
        generator = torch.Generator().manual_seed(6)
        with torch.no_grad():
            for _, tensor in named_parameters(adapter):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.2)
    return adapter


def make_rows(n=6):
    source = random.Random(0)
    system = [1, 7, 8, 9]
    rows = []
    for _ in range(n):
        prompt = system + [source.randrange(VOCABULARY) for _ in range(source.randrange(2, 9))]
        answer = [source.randrange(VOCABULARY) for _ in range(source.randrange(1, 5))]
        rows.append(Row(prompt + answer, [False] * len(prompt) + [True] * len(answer)))
    return rows


def make_pairs(n=4):
    """Pairs of answers of different lengths to the same question, with a reference of any kind."""
    source = random.Random(1)
    pairs = []
    for _ in range(n):
        prompt = [1, 7, *(source.randrange(VOCABULARY) for _ in range(source.randrange(2, 6)))]
        chosen, rejected = (
            [source.randrange(VOCABULARY) for _ in range(source.randrange(1, 5))] for _ in "ab"
        )
        rows = [
            Row(prompt + answer, [False] * len(prompt) + [True] * len(answer))
            for answer in (chosen, rejected)
        ]
        pairs.append(Pair(*rows, reference=(-source.random() * 9, -source.random() * 9)))
    return pairs


def gradients(examples, *, budget, objective=SUPERVISED):
    """Loss and gradients of one step, before the optimizer clips and applies them."""
    llama = make_llama()
    engine = Engine(llama, make_adapter(llama), objective, micro_batch_tokens=budget)
    measured = engine._accumulate(examples, is_training=True)
    return measured, {name: tensor.grad for name, tensor in named_parameters(engine.adapter)}


@pytest.mark.parametrize("budget", [1, 25, 1000])
def test_loss_and_gradients_do_not_depend_on_the_micro_batches(budget):
    """With a budget of 1 each row stands alone: no shared prefix, no mask."""
    rows = make_rows()
    expected, expected_gradients = gradients(rows, budget=10_000)

    measured, found = gradients(rows[::-1], budget=budget)

    assert measured.loss == pytest.approx(expected.loss, rel=1e-5)
    assert measured.accuracy == expected.accuracy
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("budget", [1, 40, 1000])
def test_preferences_do_not_depend_on_the_micro_batches(budget):
    pairs = make_pairs()
    expected, expected_gradients = gradients(pairs, budget=10_000, objective=Preference(0.3))

    measured, found = gradients(pairs[::-1], budget=budget, objective=Preference(0.3))

    assert measured.loss == pytest.approx(expected.loss, rel=1e-5)
    assert measured.accuracy == expected.accuracy
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


def test_loss_of_a_preference_is_that_of_the_paper():
    """-log sigmoid(beta * (gain of the chosen answer - gain of the rejected one)), by hand."""
    llama, pairs, beta = make_llama(), make_pairs(), 0.3
    engine = Engine(llama, make_adapter(llama), Preference(beta), micro_batch_tokens=100)

    def log_probability(row):
        """Token by token, each from the row up to it, as nobody would compute it."""
        total = 0.0
        for position, is_trained in enumerate(row.trained):
            if is_trained:
                before = Row(row.token_ids[: position + 1], [False] * position + [True])
                total -= (
                    Engine(llama, engine.adapter, Supervised(), micro_batch_tokens=100)
                    .evaluate([before])
                    .loss
                )
        return total

    expected, wanted = 0.0, 0
    for pair in pairs:
        gains = [
            log_probability(row) - reference
            for row, reference in zip((pair.chosen, pair.rejected), pair.reference, strict=True)
        ]
        margin = beta * (gains[0] - gains[1])
        expected += math.log1p(math.exp(-margin)) / len(pairs)
        wanted += margin > 0

    measured = engine.evaluate(pairs)

    assert measured.loss == pytest.approx(expected, rel=1e-4)
    assert measured.accuracy == wanted / len(pairs)


def test_gradient_of_a_preference_is_that_of_its_loss():
    """Against differences of the loss itself, along each tensor's own gradient."""
    llama, pairs = make_llama(), make_pairs()
    engine = Engine(llama, make_adapter(llama), Preference(0.3), micro_batch_tokens=100)
    engine._accumulate(pairs, is_training=True)
    for name, tensor in named_parameters(engine.adapter):
        direction = tensor.grad / (tensor.grad.norm() + 1e-12)
        losses = []
        for sign in (1, -1):
            with torch.no_grad():
                tensor.add_(direction, alpha=sign * 1e-2)
            losses.append(engine.evaluate(pairs).loss)
            with torch.no_grad():
                tensor.add_(direction, alpha=-sign * 1e-2)
        slope = (losses[0] - losses[1]) / 2e-2
        assert slope == pytest.approx(float(tensor.grad.norm()), rel=0.05, abs=1e-4), name


def test_reference_makes_untrained_pairs_even_and_is_kept(tmp_path):
    llama = make_llama()
    engine = Engine(llama, make_adapter(llama), Preference(0.3), micro_batch_tokens=100)
    file = tmp_path / "reference.jsonl"
    made = make_pairs(600)

    assert with_reference(made, engine, file, "run", lambda _done: False) is None
    with file.open("a") as killed:
        killed.write("[-1.0, -")
    reported = []
    pairs = with_reference(made, engine, file, "run", lambda done: not reported.append(done))
    assert reported[-1] == len(made)
    assert len(reported) > 1

    assert engine.evaluate(pairs).loss == pytest.approx(math.log(2), abs=1e-5)
    engine.step(pairs, 1e-2)
    assert engine.evaluate(pairs).loss < math.log(2)
    assert with_reference(made, engine, file, "run") == pairs
    assert with_reference(made, engine, file, "another run") != pairs


def test_fresh_adapter_changes_nothing():
    llama, rows = make_llama(), make_rows()
    fresh = make_adapter(llama, is_fresh=True)
    bare = make_adapter(llama, is_fresh=True)
    with torch.no_grad():
        for _, tensor in named_parameters(bare):
            tensor.zero_()

    losses = {
        Engine(llama, adapter, Supervised(), micro_batch_tokens=100).evaluate(rows).loss
        for adapter in (fresh, bare)
    }

    assert len(losses) == 1


def test_evaluation_equals_the_loss_of_training():
    rows = make_rows()
    llama = make_llama()
    engine = Engine(llama, make_adapter(llama), Supervised(), micro_batch_tokens=100)

    before = engine.evaluate(rows)

    assert engine.step(rows, 1e-2)[0] == before
    assert engine.evaluate(rows).loss < before.loss


def test_snapshot_continues_exactly():
    rows, llama = make_rows(), make_llama()
    engine = Engine(llama, make_adapter(llama), Supervised(), micro_batch_tokens=100)
    engine.step(rows, 1e-2)
    snapshot = {name: tensor.clone() for name, tensor in engine.snapshot().items()}
    other = Engine(llama, make_adapter(llama, is_fresh=True), Supervised(), micro_batch_tokens=100)

    other.restore(snapshot)
    for _ in range(3):
        assert other.step(rows, 1e-2) == engine.step(rows, 1e-2)


def test_loss_that_is_not_finite_is_refused_before_the_update():
    llama = make_llama()
    engine = Engine(llama, make_adapter(llama), Supervised(), micro_batch_tokens=100)
    with torch.no_grad():
        next(iter(engine.weights().values())).fill_(float("inf"))

    with pytest.raises(FloatingPointError, match="lower learning rate"):
        engine.step(make_rows(), 1e-2)


def test_peft_tensors_come_back_as_the_same_adapter():
    llama = make_llama()
    adapter = make_adapter(llama)

    back = from_peft(llama, to_peft(adapter), alpha=8)

    assert back.scale == adapter.scale
    for (name, ours), (other, theirs) in zip(
        named_parameters(adapter), named_parameters(back), strict=True
    ):
        assert name == other
        assert torch.equal(ours, theirs)


def test_adapter_without_a_module_is_refused():
    llama = make_llama()
    tensors = to_peft(make_adapter(llama))
    tensors.pop("base_model.model.model.layers.1.mlp.up_proj.lora_B.weight")

    with pytest.raises(Invalid, match=r"layers.1.mlp.up_proj.lora_B"):
        from_peft(llama, tensors, alpha=8)


def test_rotation_orders_are_inverse():
    weight = torch.arange(48.0).reshape(24, 2)

    assert not torch.equal(interleave_rotation(weight, 3), weight)
    assert torch.equal(split_rotation(interleave_rotation(weight, 3), 3), weight)


@pytest.mark.slow
def test_loss_and_gradients_equal_those_of_transformers_and_peft():
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    rows, llama = make_rows(), make_llama()
    adapter = make_adapter(llama)
    reference = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=24, intermediate_size=40, num_hidden_layers=2,
            num_attention_heads=3, num_key_value_heads=1, rms_norm_eps=1e-5,
            rope_theta=1e4, tie_word_embeddings=True,
        )
    )  # fmt: skip
    reference.load_state_dict(reference_weights(llama), strict=False)
    model = get_peft_model(
        reference,
        LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    modules = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in to_peft(adapter).items():
            modules[name.replace(".weight", ".default.weight")].copy_(tensor)

    total = 0
    for row in rows:
        logits = model(input_ids=torch.tensor([row.token_ids])).logits[0, :-1]
        kept = torch.tensor(row.trained[1:])
        total = total + torch.nn.functional.cross_entropy(
            logits[kept], torch.tensor(row.token_ids[1:])[kept], reduction="sum"
        )
    loss = total / sum(row.n_targets for row in rows)
    loss.backward()

    measured, found = gradients(rows, budget=10_000)
    assert measured.loss == pytest.approx(float(loss.detach()), rel=1e-5)
    queries = "base_model.model.model.layers.0.self_attn.q_proj"
    torch.testing.assert_close(
        found["0.qkv.down"][:4],
        modules[f"{queries}.lora_A.default.weight"].grad,
        rtol=1e-4,
        atol=1e-6,
    )
    for name, ours in {"1.down.up.0": "mlp.down_proj", "1.gate_up.up.1": "mlp.up_proj"}.items():
        torch.testing.assert_close(
            found[name],
            modules[f"base_model.model.model.layers.1.{ours}.lora_B.default.weight"].grad,
            rtol=1e-4,
            atol=1e-6,
        )


def reference_weights(llama):
    weights = {"model.embed_tokens.weight": llama.embedding, "model.norm.weight": llama.norm}
    for number, layer in enumerate(llama.layers):
        prefix = f"model.layers.{number}."
        query, key, value = layer.qkv.split([24, 8, 8])
        gate, up = layer.gate_up.chunk(2)
        weights |= {
            f"{prefix}input_layernorm.weight": layer.attention_norm,
            f"{prefix}post_attention_layernorm.weight": layer.mlp_norm,
            f"{prefix}self_attn.q_proj.weight": query,
            f"{prefix}self_attn.k_proj.weight": key,
            f"{prefix}self_attn.v_proj.weight": value,
            f"{prefix}self_attn.o_proj.weight": layer.output,
            f"{prefix}mlp.gate_proj.weight": gate,
            f"{prefix}mlp.up_proj.weight": up,
            f"{prefix}mlp.down_proj.weight": layer.down,
        }
    return weights
