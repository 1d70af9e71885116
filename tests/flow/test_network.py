"""What the flow needs of its network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scratio_sc.flow._network import BOUNDARY, Experts, FilmBlock, ResidualNetwork

D, FEATURES = 3, 2


def network(*, spoken: bool = False) -> ResidualNetwork:
    """As initialised, or with random weights where the initial ones are zero."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        net = ResidualNetwork(D, FEATURES, width=16, n_trunk=1, n_head=1)
        if spoken:
            for parameter in net.parameters():
                torch.nn.init.normal_(parameter, std=0.3)
    return net


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def output(net: ResidualNetwork, z: Tensor, log_sigma: Tensor, features: Tensor) -> Tensor:
    noise = net.noise_code(log_sigma)
    return net.head(net.trunk(z, noise), net.group_code(noise, features))


def test_output_starts_at_zero() -> None:
    out = output(network(), randn(5, D), randn(5), torch.eye(FEATURES)[0])
    assert torch.equal(out, torch.zeros(5, D))


def test_block_starts_as_the_identity() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        block = FilmBlock(8, 4)
    hidden = randn(5, 8)
    assert torch.equal(block(hidden, randn(5, 4)), hidden)


def test_output_depends_on_the_group() -> None:
    net, z = network(spoken=True), randn(5, D)
    first, second = (output(net, z, torch.zeros(5), features) for features in torch.eye(FEATURES))
    assert (first - second).abs().max() > 0.01


def test_output_depends_on_the_noise_level() -> None:
    net, z = network(spoken=True), randn(5, D)
    fine, coarse = (output(net, z, torch.full((5,), s), torch.eye(FEATURES)[0]) for s in (-1.0, 1.0))
    assert (fine - coarse).abs().max() > 0.01


def test_trunk_does_not_know_the_group() -> None:
    net, z = network(spoken=True), randn(5, D)
    noise = net.noise_code(torch.zeros(5))
    hidden = net.trunk(z, noise)
    with torch.no_grad():
        net.embedding.weight.zero_()
    assert torch.equal(net.trunk(z, noise), hidden)


def test_codes_broadcast_against_cells_and_directions() -> None:
    """Shapes of scoring: cells, nodes and directions on the left, one code a node and one group on the right."""
    net = network(spoken=True)
    z, log_sigma, features = randn(4, 2, 3, D), torch.tensor([-1.0, 1.0]), torch.eye(FEATURES)[1]
    together = output(net, z, log_sigma[None, :, None], features)
    for node in range(2):
        rows = z[:, node].reshape(-1, D)
        alone = output(net, rows, log_sigma[node].expand(len(rows)), features)
        torch.testing.assert_close(together[:, node].reshape(-1, D), alone)


def test_features_of_a_batch_belong_to_their_rows() -> None:
    net, z, log_sigma = network(spoken=True), randn(6, D), randn(6)
    features = torch.eye(FEATURES)[torch.arange(6) % FEATURES]
    together = output(net, z, log_sigma, features)
    alone = torch.cat([output(net, z[i : i + 1], log_sigma[i : i + 1], features[i]) for i in range(6)])
    torch.testing.assert_close(together, alone)


def test_every_parameter_is_trained() -> None:
    net = network(spoken=True)
    output(net, randn(5, D), randn(5), torch.eye(FEATURES)[torch.arange(5) % FEATURES]).square().sum().backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert silent == []


def test_frequencies_are_not_stored_with_the_weights() -> None:
    assert not [name for name in network().state_dict() if "frequency" in name]


def experts() -> Experts:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return Experts(D, FEATURES, widths=(16, 24), n_trunk=1, n_head=1)


@pytest.mark.parametrize(("sigma", "name"), [(50.0, "coarse"), (1.01, "coarse"), (1.0, "fine"), (0.02, "fine")])
def test_experts_answer_on_their_side_of_the_boundary(sigma: float, name: str) -> None:
    both = experts()
    assert both.at(sigma * BOUNDARY) is getattr(both, name)


def test_experts_share_no_weights() -> None:
    both = experts()
    assert not {id(p) for p in both.coarse.parameters()} & {id(p) for p in both.fine.parameters()}
