"""Zoneout and the dropouts inside a layer: what is drawn, when, and from which generator."""

import pytest

torch = pytest.importorskip("torch")

from carousel import nn  # noqa: E402
from carousel.errors import UnsupportedError  # noqa: E402
from modules import flat, recorded  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
RANDOM = ["zoneout", "recurrent_dropout", "state_dropout", "input_dropout"]
LAYERS = ["LSTM", "GRU", "RNN"]
layers = pytest.mark.parametrize("kind", LAYERS)
random = pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in LAYERS for name in RANDOM if (kind, name) != ("RNN", "recurrent_dropout")],
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@random
def test_one_seed_one_draw(kind, name):
    module, x = getattr(nn, kind)(3, 8, 2, **{name: 0.5}), torch.randn(6, 4, 3)

    def drawn(seed):
        torch.manual_seed(seed)
        return module(x)[0]

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    assert not torch.equal(module(x)[0], module(x)[0])


@random
def test_evaluation_draws_nothing(kind, name):
    module, x = getattr(nn, kind)(3, 8, 2, **{name: 0.5}).eval(), torch.randn(6, 4, 3)
    before = torch.get_rng_state()
    assert torch.equal(module(x)[0], module(x)[0])
    assert torch.equal(torch.get_rng_state(), before)


@layers
def test_without_randomness_the_generator_is_left_alone(kind):
    options = {"layer_norm": True, "clip": 1.0, "recompute": 2} | (
        {"peephole": True, "cell_clip": 1.0} if kind == "LSTM" else {}
    )
    module = getattr(nn, kind)(3, 8, 2, **options)
    before = torch.get_rng_state()
    module(torch.randn(6, 4, 3, generator=torch.Generator()), lengths=[6, 2, 0, 1])[0].sum().backward()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("name", ["recurrent_dropout", "state_dropout", "input_dropout"])
def test_values_of_a_mask(kind, name):
    """0 with probability p, else 1 / (1 - p): its mean is 1, so evaluation needs no rescaling."""
    p = 0.25
    module = getattr(nn, kind)(30, 40, **{name: p})
    with recorded() as draws:
        module(torch.randn(2, 50, 30))
    if name == "input_dropout":
        mask = draws.inputs[0]
    else:
        mask = getattr(
            draws.batches[0], {"recurrent_dropout": "candidate_mask", "state_dropout": "state_mask"}[name]
        )
    assert sorted(mask.unique().tolist()) == pytest.approx([0, 1 / (1 - p)])
    # The share of zeros among n draws: p ± 4 standard deviations.
    share, n = float((mask == 0).float().mean()), mask.numel()
    assert abs(share - p) < 4 * (p * (1 - p) / n) ** 0.5


def test_masks_differ_from_layer_to_layer_and_row_to_row():
    module = nn.LSTM(3, 40, 2, bidirectional=True, recurrent_dropout=0.5, state_dropout=0.5)
    with recorded() as draws:
        module(torch.randn(5, 3, 3))
    for mask in (draws.batches[0].candidate_mask, draws.batches[0].state_mask):
        assert len(mask.reshape(12, 40).unique(dim=0)) == 12


def test_input_dropout_drops_a_feature_at_all_steps():
    """A feature that is dropped has no gradient at any step; one that is not, at every step."""
    module = nn.GRU(40, 8, input_dropout=0.5)
    x = torch.randn(6, 5, 40, requires_grad=True)
    module(x)[0].sum().backward()
    dropped = x.grad == 0
    assert (dropped == dropped[0]).all()
    assert 0.3 < dropped[0].float().mean() < 0.7


def test_recurrent_dropout_drops_a_candidate_at_all_steps():
    """With c_0 = 0 a cell whose candidate is dropped stays 0; nothing else does."""
    module = nn.LSTM(3, 200, recurrent_dropout=0.5)
    y, _ = module(torch.randn(6, 5, 3))
    dropped = y == 0
    assert (dropped == dropped[0]).all()
    assert 0.4 < dropped[0].float().mean() < 0.6


def test_state_dropout_drops_units_from_the_product_only():
    """The gradient of R has no column for a unit that one row drops; the unit itself is computed."""
    module = nn.RNN(3, 40, state_dropout=0.5)
    with recorded() as draws:
        y, _ = module(torch.randn(6, 1, 3))
    y.sum().backward()
    dropped = draws.batches[0].state_mask[0, 0] == 0
    assert ((module.weight_hh_l0.grad == 0).all(dim=0) == dropped).all()
    assert (y != 0).all()


@layers
def test_zoneout_keeps_units_as_they_were(kind):
    """In training a unit either stays or moves, each with its probability, at every step anew."""
    module = getattr(nn, kind)(3, 50, zoneout=0.3)
    y, _ = module(torch.randn(21, 20, 3))
    stays = (y[1:] - y[:-1]).abs() < 1e-6  # as h + d (h_old - h) rounds
    assert abs(float(stays.float().mean()) - 0.3) < 4 * (0.21 / stays.numel()) ** 0.5
    assert (stays[1:] != stays[:-1]).any()


@layers
def test_zoneout_takes_its_rate_in_evaluation(kind):
    plain, zoned = getattr(nn, kind)(3, 5), getattr(nn, kind)(3, 5, zoneout=0.3).eval()
    zoned.load_state_dict(plain.state_dict())
    x, h = torch.randn(1, 4, 3), torch.randn(1, 4, 5)
    hx = (h, torch.randn(1, 4, 5)) if kind == "LSTM" else h
    for old, new, found in zip(flat(hx), flat(plain(x, hx)[1]), flat(zoned(x, hx)[1]), strict=True):
        torch.testing.assert_close(found, 0.3 * old + 0.7 * new)


def test_zoneout_of_one_stands_still():
    h, c = torch.randn(1, 4, 5), torch.randn(1, 4, 5)
    for training in (True, False):
        module = nn.LSTM(3, 5, zoneout=1.0).train(training)
        y, (h_n, c_n) = module(torch.randn(6, 4, 3), (h, c))
        for found, right in ((y, h.expand(6, 4, 5)), (h_n, h), (c_n, c)):
            torch.testing.assert_close(found, right)


@pytest.mark.parametrize("name", RANDOM)
def test_training_is_right_on_average(name):
    """One step from a zero state: the mean of y over many draws is what evaluation gives."""
    module = nn.GRU(3, 4, **{name: 0.3})
    if name == "input_dropout":  # passes through σ and tanh, where means do not: small weights, where they do
        with torch.no_grad():
            module.weight_ih_l0.mul_(0.01)
    x = torch.randn(1, 1, 3).expand(1, 20000, 3)
    drawn = module(x)[0]
    right = module.eval()(x[:, :1])[0]
    error = (drawn.mean(1) - right[:, 0]).abs()
    assert (error <= 5 * drawn.std(1) / 20000**0.5 + 1e-6).all()


def test_zoneout_has_one_key_for_a_vmap():
    lstm, xs = nn.LSTM(3, 5, zoneout=0.3), torch.randn(2, 6, 4, 3)

    def outputs(randomness):
        return torch.func.vmap(lambda x: lstm(x)[0], randomness=randomness)(xs)

    assert outputs("same").shape == (2, 6, 4, 5)
    with pytest.raises(UnsupportedError, match=r'zoneout in training .* vmap\(\.\.\., randomness="same"\)'):
        outputs("different")
